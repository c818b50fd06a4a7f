//! Waits for the mail of a mailbox on tokio's runtime.

use std::io;

use tokio::net::unix::pipe;
use tokio::task::yield_now;

use crate::mailbox::Inbox;

/// Waits until a mailbox has mail, or its bell was rung.
pub(super) async fn until_mail<M>(inbox: &Inbox<M>, ring: &pipe::Receiver) {
    let bell = inbox.mailbox().doorbell();
    if bell.sleep(|| inbox.is_empty()) {
        let _ = ring.readable().await;
        // Until there is nothing to read, so that the next ring is awaited.
        while ring.try_read(&mut [0; 8]).is_ok() {}
        bell.woke();
    } else {
        yield_now().await;
    }
}

/// Returns the bell of a mailbox, to be awaited.
pub(super) fn ring<M>(inbox: &Inbox<M>) -> io::Result<pipe::Receiver> {
    // Not a pipe, but read like one.
    pipe::Receiver::from_owned_fd_unchecked(inbox.mailbox().doorbell().descriptor().try_clone()?)
}
