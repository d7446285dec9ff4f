//! What is tested of every decoder alike.

/// Tests that every protocol has to pass over its recordings. `$split`: segments up to this length are cut everywhere;
/// `$step`: the fuzz target runs on every first part of so many bytes more.
#[macro_export]
macro_rules! protocol_suite {
    ($suite:expr, $fuzz:path, split $split:expr, step $step:expr) => {
        #[test]
        fn golden() {
            $suite.golden();
        }

        #[test]
        fn every_split_gives_the_same_calls() {
            $suite.every_split($split);
        }

        #[test]
        fn a_connection_joined_late_is_announced_before_anything_is_said_of_it() {
            $suite.every_late_start(1, &mut |what, got, _| {
                assert_eq!(got.first().map(String::as_str), Some("disturbed mid_stream"), "{what}");
                assert_eq!(got.iter().filter(|l| *l == "disturbed mid_stream").count(), 1, "{what}");
            });
        }

        #[test]
        fn the_fuzz_target_holds_on_every_prefix_of_the_recordings() {
            $suite.every_fuzz_prefix($step, $fuzz);
        }

        proptest::proptest! {
            #[test]
            fn random_bytes_do_no_harm(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000)) {
                $fuzz(&data);
            }

            #[test]
            fn pieces_of_any_size_give_the_same_calls(
                sizes in proptest::collection::vec(1usize..64, 1..40),
                which in 0usize..64,
            ) {
                $suite.in_pieces(&sizes, which);
            }

            #[test]
            fn a_changed_byte_does_no_harm(
                which in 0usize..1000,
                at in 0usize..100_000,
                value in proptest::prelude::any::<u8>(),
                late in proptest::prelude::any::<bool>(),
            ) {
                thread_local!(static ALL: Vec<(String, $crate::common::Segments)> = $suite.recordings());
                ALL.with(|all| $suite.with_a_changed_byte(all, which, at, value, late));
            }
        }
    };
}
