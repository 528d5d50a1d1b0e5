//! The whole chain on two workers of one process: clients that send anything, a host that fails, a
//! clock that steps, issuers that answer anything.

mod model;
mod session;

use arbitrary::{Arbitrary as _, Unstructured};

/// A longer session finds nothing that a few shorter ones don't.
const MOST_ACTIONS: usize = 100;

/// Plays a session, as long as there are bytes, and checks it against the model.
pub fn check(bytes: &[u8]) {
    let mut rest = Unstructured::new(bytes);
    let mut session = session::Session::start();
    for _ in 0..MOST_ACTIONS {
        match session::Action::arbitrary(&mut rest) {
            Ok(action) if !rest.is_empty() => session.act(&action),
            _ => break,
        }
    }
    session.close();
}
