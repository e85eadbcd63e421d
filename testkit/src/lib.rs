//! What the tests and examples of evermux share.
