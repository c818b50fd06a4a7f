//! What all threads know of the capture of rows of a database.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::message::CaptureCondition;
use crate::metrics::capture::CaptureCounts;

/// The condition of the capture, and what it counts.
#[derive(Debug)]
pub struct Capture {
    condition: ArcSwap<CaptureCondition>,
    /// What the thread that publishes rows counts.
    pub counts: Arc<CaptureCounts>,
}

impl Default for Capture {
    fn default() -> Self {
        let condition = ArcSwap::from_pointee(CaptureCondition::Connecting);
        Self { condition, counts: Arc::default() }
    }
}

impl Capture {
    /// Returns the condition of the capture.
    pub fn condition(&self) -> Arc<CaptureCondition> {
        self.condition.load_full()
    }

    /// Notes the condition of the capture.
    pub fn note(&self, condition: CaptureCondition) {
        self.condition.store(Arc::new(condition));
    }

    /// Returns what the health of the node says; `None` if all is well.
    pub fn trouble(&self) -> Option<String> {
        let condition = self.condition();
        matches!(*condition, CaptureCondition::Failing(_)).then(|| condition.to_string())
    }
}
