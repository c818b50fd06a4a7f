//! Tasks that follow a bucket of the cluster for as long as it can be followed, and then begin
//! again.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::follower::Lost;
use crate::background::admin::sharing::Waiting;
use crate::limits::REGISTER_RETRY_MS;

/// A bucket that a task follows and changes.
pub(super) trait Rounds {
    /// Follows the bucket until it is lost, and returns why; `None` if the node ends. Tells
    /// `followed` when the node has all of it.
    async fn round(&mut self, followed: &mut Followed, over: &mut Over) -> Option<Lost>;

    /// Returns the wishes that change the bucket.
    fn waiting(&mut self) -> &mut Waiting;
}

/// Is told when the node has all that its bucket has for the first time.
pub(super) struct Followed(Option<oneshot::Sender<()>>);

/// Tells the end of the node, or is dropped then.
pub(super) type Over = oneshot::Receiver<()>;

impl Followed {
    pub(super) fn tell(&mut self) {
        if let Some(followed) = self.0.take() {
            let _ = followed.send(());
        }
    }
}

/// Follows and changes a bucket until `over`. Between two rounds, wishes are refused.
pub(super) async fn run(
    rounds: &mut impl Rounds,
    what: &str,
    followed: oneshot::Sender<()>,
    mut over: Over,
) {
    let mut followed = Followed(Some(followed));
    let mut trouble = String::new();
    while let Some(lost) = rounds.round(&mut followed, &mut over).await {
        let text = lost.to_string();
        if text != trouble {
            tracing::warn!("{what} cannot be followed: {text}");
            trouble = text;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(REGISTER_RETRY_MS)) => {}
            _ = &mut over => return,
            () = rounds.waiting().refuse_on() => {}
        }
    }
}
