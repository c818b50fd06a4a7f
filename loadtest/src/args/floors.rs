//! The arguments of the floors.

use clap::Args;
use serde_json::{Value, json};

use crate::floor::{Sending, Sends, Source};

/// Publications that the clock may add to one turn, unless that is an argument.
pub(crate) const TURN_MAX: usize = 64;

/// How the floor gets its publications and how it sends them.
#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct SendingArguments {
    /// Floor: plain, coalescing or ring
    #[arg(long, value_enum, default_value = "plain", hide_possible_values = true)]
    pub(crate) sends: Sends,
    /// Floor: by its clock, or over http
    #[arg(long, value_enum, default_value = "clock", hide_possible_values = true)]
    pub(crate) publications: Source,
}

impl SendingArguments {
    /// Adds the settings that a saved run names.
    pub(crate) fn put_into(&self, settings: &mut Value) {
        settings["sends"] = json!(self.sends);
        settings["publications"] = json!(self.publications);
    }

    /// Returns how a floor with this many clients sends, if the clock may add this many publications
    /// to a turn.
    pub(crate) fn sending(&self, audience: usize, turn_max: usize) -> Sending {
        let Self { sends, publications: source } = *self;
        Sending { sends, source, turn_max, audience }
    }
}
