//! The named moments of a run between which a crash may fall.
//!
//! Each effect that must survive a crash has a boundary before and one after it. The pipeline announces every
//! boundary it passes to a [`BoundaryObserver`]; the crash tests end the process there.

use std::fmt;

macro_rules! boundaries {
    ($($name:ident = $text:literal,)+) => {
        /// A named moment of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Boundary { $($name,)+ }

        impl Boundary {
            /// All boundaries, in the order in which a run passes them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in kebab case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Reads the name that `as_str` gives.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|boundary| boundary.as_str() == text)
            }
        }
    };
}

boundaries! {
    BeforePlanFile = "before-plan-file",
    AfterPlanFile = "after-plan-file",
    BeforePlanRow = "before-plan-row",
    AfterPlanRow = "after-plan-row",
    BeforeIntent = "before-intent",
    AfterIntent = "after-intent",
    BeforeSend = "before-send",
    AfterSend = "after-send",
    BeforeAnswer = "before-answer",
    AfterAnswer = "after-answer",
    BeforeAcknowledge = "before-acknowledge",
    AfterAcknowledge = "after-acknowledge",
    BeforeFold = "before-fold",
    AfterFold = "after-fold",
    BeforeCheckpoint = "before-checkpoint",
    AfterCheckpoint = "after-checkpoint",
    BeforeEnrichment = "before-enrichment",
    AfterEnrichment = "after-enrichment",
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Learns of each boundary as it is passed, possibly from several tasks at once.
pub trait BoundaryObserver: Send + Sync {
    fn reached(&self, boundary: Boundary);
}

/// Lets every boundary pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl BoundaryObserver for Unobserved {
    fn reached(&self, _boundary: Boundary) {}
}
