//! The items of a source file: what each is called, and where it begins and ends.

use std::ops::{Range, RangeInclusive};

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ImplItemFn, ItemEnum, ItemFn, ItemImpl, ItemMacro, ItemMod, ItemStruct, ItemTrait, TraitItemFn,
    Visibility,
};

/// A source file.
pub(crate) struct Source {
    items: Vec<Item>,
}

struct Item {
    /// What stands before its body, without attributes and visibility, with single spaces.
    head: String,
    lines: RangeInclusive<usize>,
    /// It is built for tests alone.
    is_for_tests: bool,
}

impl Source {
    /// Reads a source file.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let file = syn::parse_file(text).map_err(|error| format!("line {}: {error}", error.span().start().line))?;
        let mut reader = Reader { text, items: Vec::new() };
        reader.visit_file(&file);
        Ok(Self { items: reader.items })
    }

    /// The lines of each item that is called this, which may leave out the end of its head: `fn open` is
    /// `pub fn open(&self)` as well, but not `fn open_stream(&self)`. With `within`, only what stands in such an item.
    pub(crate) fn find(&self, name: &str, within: Option<&str>) -> Vec<RangeInclusive<usize>> {
        let called = |name: &str| {
            let name = in_one_line(name);
            self.items.iter().filter(move |item| is_called(&item.head, &name)).map(|item| item.lines.clone())
        };
        let found = called(name);
        let Some(outer) = within else { return found.collect() };
        let outer: Vec<_> = called(outer).collect();
        let is_in = |inner: &RangeInclusive<usize>, outer: &RangeInclusive<usize>| {
            inner != outer && outer.contains(inner.start()) && outer.contains(inner.end())
        };
        found.filter(|inner| outer.iter().any(|outer| is_in(inner, outer))).collect()
    }

    /// The lines of what is built for tests alone.
    pub(crate) fn for_tests(&self) -> impl Iterator<Item = RangeInclusive<usize>> + '_ {
        self.items.iter().filter(|item| item.is_for_tests).map(|item| item.lines.clone())
    }
}

/// Whether an item with this head is called this.
fn is_called(head: &str, name: &str) -> bool {
    let is_of_a_word = |character: char| character.is_alphanumeric() || character == '_';
    head.strip_prefix(name).is_some_and(|rest| !name.is_empty() && !rest.starts_with(is_of_a_word))
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Reader<'a> {
    text: &'a str,
    items: Vec<Item>,
}

impl Reader<'_> {
    /// An item. Its body begins at `body`; what has none, such as `mod tests;`, is all head.
    fn add(&mut self, whole: Span, attributes: &[Attribute], visibility: Option<&Visibility>, body: Option<Span>) {
        let Range { start, end } = whole.byte_range();
        // An inner attribute stands in the body.
        let outer = attributes.iter().filter(|attribute| matches!(attribute.style, syn::AttrStyle::Outer));
        let before = outer
            .map(Spanned::span)
            .chain(visibility.filter(|visibility| !matches!(visibility, Visibility::Inherited)).map(Spanned::span))
            .map(|span| (span.byte_range().end, span.end().line))
            .max();
        let head = before.map_or(start, |(end, _)| end)..body.map_or(end, |body| body.byte_range().start);
        // The text that syn counts has no byte order mark.
        let head = in_one_line(self.text.trim_start_matches('\u{feff}').get(head).unwrap_or_default());
        let is_for_tests = attributes.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|cfg| cfg.is_ident("test"))
        });
        let lines = whole.start().line..=whole.end().line;
        self.items.push(Item { head, lines, is_for_tests });
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.add(item.span(), &item.attrs, Some(&item.vis), Some(item.block.span()));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.add(item.span(), &item.attrs, Some(&item.vis), Some(item.block.span()));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.add(item.span(), &item.attrs, None, item.default.as_ref().map(Spanned::span));
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.add(item.span(), &item.attrs, None, Some(item.brace_token.span.open()));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.add(item.span(), &item.attrs, Some(&item.vis), Some(item.brace_token.span.open()));
        visit::visit_item_trait(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add(item.span(), &item.attrs, Some(&item.vis), Some(item.fields.span()));
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.add(item.span(), &item.attrs, Some(&item.vis), Some(item.brace_token.span.open()));
    }

    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        self.add(item.span(), &item.attrs, None, Some(item.mac.delimiter.span().open()));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let body = item.content.as_ref().map(|(brace, _)| brace.span.open());
        self.add(item.span(), &item.attrs, Some(&item.vis), body);
        visit::visit_item_mod(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
//! A module.

/// Opens.
pub(crate) fn open<T>(
    what: T,
) -> T {
    fn inner() {}
    what
}

fn open_stream() { let text = \"} fn open\"; }

impl<S: fmt::Debug> fmt::Debug
    for Builder<S>
{
    fn fmt(&self) {
        // }
    }
}

#[must_use]
impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {}
}

impl Drop for Wait {
    fn drop(&mut self) {
        async fn later() {}
    }
}

#[cfg(test)]
mod tests {
    fn one() {}
}

#[cfg(all(test, unix))]
fn another() {}
";

    fn find(name: &str) -> Vec<RangeInclusive<usize>> {
        Source::read(TEXT).unwrap().find(name, None)
    }

    #[test]
    fn an_item_ends_where_its_brace_closes() {
        // With its documentation, which is no code.
        assert_eq!(find("fn open"), [3..=9]);
        assert_eq!(find("fn inner"), [7..=7]);
        assert_eq!(find("fn open_stream"), [11..=11]);
        assert_eq!(find("impl Drop for Guard"), [21..=25]);
    }

    #[test]
    fn an_item_is_called_what_is_written() {
        assert_eq!(find("fn open<T>( what: T, ) -> T"), [3..=9]);
        assert_eq!(find("impl<S: fmt::Debug>  fmt::Debug for Builder"), [13..=19]);
        assert_eq!(find("async fn later"), [29..=29]);
        assert!(find("fn later").is_empty() && find("fn ope").is_empty() && find("open").is_empty());
        assert!(find("").is_empty());
    }

    #[test]
    fn several_items_are_told_apart_by_what_they_stand_in() {
        assert_eq!(find("fn drop"), [23..=24, 28..=30]);
        let source = Source::read(TEXT).unwrap();
        assert_eq!(source.find("fn drop", Some("impl Drop for Wait")), [28..=30]);
        assert!(source.find("fn drop", Some("mod tests")).is_empty());
        assert!(source.find("fn open", Some("fn open")).is_empty());
    }

    #[test]
    fn what_is_built_for_tests_is_known() {
        assert_eq!(Source::read(TEXT).unwrap().for_tests().collect::<Vec<_>>(), [33..=36]);
    }

    #[test]
    fn a_file_that_is_no_rust_is_an_error() {
        assert!(Source::read("fn f() {\n}\n}").is_err());
    }
}
