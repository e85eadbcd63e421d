//! Where a file can be switched: at its blocks.
//!
//! A block that is `{ A }` can become `{ if on(1) { B } else { A } }` wherever it stands: what it declares is its own,
//! and its value and the ways out of it stay what they were.

use std::ops::Range;

use proc_macro2::extra::DelimSpan;
use syn::visit::{self, Visit};

/// The insides of all blocks of a file, in bytes. Those that must be constant are not among them.
pub(crate) fn blocks(text: &str) -> Result<Vec<Range<usize>>, String> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let mut found = Blocks(Vec::new());
    found.visit_file(&file);
    Ok(found.0)
}

/// Whether this is the inside of a block.
pub(crate) fn is_block(text: &str) -> bool {
    syn::parse_str::<syn::Block>(&format!("{{{text}\n}}")).is_ok()
}

struct Blocks(Vec<Range<usize>>);

impl Blocks {
    fn add(&mut self, braces: DelimSpan) {
        self.0.push(braces.open().byte_range().end..braces.close().byte_range().start);
    }
}

impl<'a> Visit<'a> for Blocks {
    fn visit_block(&mut self, block: &'a syn::Block) {
        self.add(block.brace_token.span);
        visit::visit_block(self, block);
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if item.sig.constness.is_none() {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if item.sig.constness.is_none() {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_const(&mut self, _: &'a syn::ItemConst) {}

    fn visit_impl_item_const(&mut self, _: &'a syn::ImplItemConst) {}

    fn visit_item_static(&mut self, _: &'a syn::ItemStatic) {}

    fn visit_expr_const(&mut self, _: &'a syn::ExprConst) {}

    fn visit_type(&mut self, _: &'a syn::Type) {}
}

/// The smallest of these blocks that has all of this range in it.
pub(crate) fn smallest(blocks: &[Range<usize>], range: &Range<usize>) -> Option<Range<usize>> {
    let around = blocks.iter().filter(|block| block.start <= range.start && range.end <= block.end);
    around.min_by_key(|block| block.len()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_wherever_they_are() {
        let text = "fn f() { if ä() { b } let c = async move { d }; match e { _ => { g } } }\nconst fn h() { i }\n\
            const J: u8 = { 3 };";
        let found: Vec<_> = blocks(text).unwrap().into_iter().map(|block| text[block].trim()).collect();
        assert_eq!(found.len(), 4);
        assert_eq!(found[1..], ["b", "d", "g"]);
    }

    #[test]
    fn the_smallest_block_is_taken() {
        let blocks = [0..100, 10..40, 20..30];
        assert_eq!(smallest(&blocks, &(22..30)), Some(20..30));
        assert_eq!(smallest(&blocks, &(22..31)), Some(10..40));
        assert_eq!(smallest(&blocks, &(99..101)), None);
    }

    #[test]
    fn what_is_no_block_is_told_from_one() {
        assert!(is_block("let a = 1; // b"));
        assert!(!is_block("let a = ;"));
    }
}
