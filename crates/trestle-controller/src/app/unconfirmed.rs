//! Which hosts have not confirmed what a request changed.
//!
//! A change holds once it is written, and a host that is away goes on with what was before. Whoever asked
//! has to hear of that, whatever it was that was asked for, so it is noted beside the request, not in each
//! answer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;

use trestle_core::types::Name;

tokio::task_local! {
    static NOTED: RefCell<BTreeSet<Name>>;
}

/// Does this, and gives the hosts beside it that had not confirmed its changes by then.
pub(crate) async fn noting<F: Future>(request: F) -> (F::Output, BTreeSet<Name>) {
    let noting = async {
        let output = request.await;
        (output, NOTED.with(RefCell::take))
    };
    NOTED.scope(RefCell::default(), noting).await
}

/// Notes hosts that have not confirmed a change; what is done beside requests has nobody to tell.
pub(super) fn note(hosts: impl IntoIterator<Item = Name>) {
    let _ = NOTED.try_with(|noted| noted.borrow_mut().extend(hosts));
}
