//! Programs in `tests/clients` that are lists of cases: what each does and expects is told there.

use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// One test per case of a program, each on a node of its own, and one that no case is forgotten
/// here.
macro_rules! cases {
    ($program:literal, $node:path, $envs:expr, [$($case:ident),* $(,)?]) => {
        $(
            #[test]
            fn $case() {
                $node().run_script(
                    $program,
                    &[stringify!($case)],
                    $envs,
                    $crate::cases::LIMIT,
                );
            }
        )*

        #[test]
        fn every_case_has_its_test() {
            let listed = $node().run_script($program, &[], &[], $crate::cases::LIMIT);
            assert_eq!(listed.lines().collect::<Vec<_>>(), [$(stringify!($case)),*]);
        }
    };
}

pub(crate) use cases;
