//! Panics of a run, wherever they happen.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use tracing::error;

use crate::interpose;
use crate::verdict::Violation;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes the first panic of a simulated thread. tokio catches what a task panics with, and hands it to whoever joins the
/// task: to nobody, if it was spawned and left.
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let of_others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !interpose::is_simulated() {
                return of_others(info);
            }
            let text = format!(
                "{} at {}",
                text_of(info.payload()),
                info.location().map_or(String::new(), ToString::to_string)
            );
            error!(text, "panic");
            PANIC.with_borrow_mut(|first| {
                first.get_or_insert(text);
            });
        }));
    });
}

/// Nothing has panicked on this thread.
pub(crate) fn none() -> Result<(), Violation> {
    PANIC.with_borrow(|first| match first {
        Some(text) => Err(Violation::new("panic", text.as_str())),
        None => Ok(()),
    })
}

/// What a panic says.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}
