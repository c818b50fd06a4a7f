//! Tests that run the cases of programs in `tests/clients`, which say what each case does and
//! expects.

use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(200);

/// Defines one test per case of a program, each with a node of its own, and a test that no case of
/// the program is missing here.
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
