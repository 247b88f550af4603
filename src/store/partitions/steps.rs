//! The next steps that a partition needs.

use super::catalogue::PartitionState;
use super::retention::is_closed;
use crate::store::Config;
use crate::table::index::Index;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Build an index, after removing the remains of an earlier attempt.
    Build(Index),
    /// Count its records by minute, service and severity.
    Count,
    /// Freeze and analyse it, once: nothing is written to it any more.
    Finish,
}

/// The steps that a partition needs under `config`, in their order. One that is still written to needs fewer than a closed one.
pub(crate) fn lacks(state: &PartitionState, config: &Config, now: i64) -> impl Iterator<Item = Step> {
    let range = state.partition.range.filter(|_| state.partition.is_table && config.create_schema);
    let closed = range.is_some_and(|range| is_closed(range, now));
    let wanted = move |index: &&Index| range.is_some() && (closed || index.is_kept_while_written());
    let lacking = |index: &&Index| !state.valid.contains(&index.name(&state.partition.name));
    let builds = config.indexes.iter().filter(wanted).filter(lacking).map(|index| Step::Build(*index));
    let count = (closed && config.counts && state.counts.are_wanting()).then_some(Step::Count);
    builds.chain(count).chain((closed && !state.is_settled).then_some(Step::Finish))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::partitions::catalogue::Partition;
    use crate::table::counts::Counts;

    #[test]
    fn what_is_lacking_is_done_in_order() {
        let indexes = vec![Index::Errors, Index::Service, Index::Attributes];
        let mut config = Config { indexes, ..Config::default() };
        let range = Some((0, 86_400));
        let partition = Partition { name: "p".into(), range, is_table: true, ..Partition::default() };
        let mut state = PartitionState { partition, ..PartitionState::default() };
        let steps =
            |state: &PartitionState, config: &Config, now| lacks(state, config, now).collect::<Vec<_>>();
        let [errors, service, attributes] =
            [Index::Errors, Index::Service, Index::Attributes].map(Step::Build);
        let closed = 2 * 86_400;
        assert_eq!(steps(&state, &config, 1), [errors], "while it is written");
        assert_eq!(steps(&state, &config, closed), [errors, service, attributes, Step::Count, Step::Finish]);
        state.valid = vec!["p_attributes_idx".into(), "p_body_idx".into(), "p_errors_idx".into()];
        state.invalid = vec!["p_service_idx".into()];
        state.counts = Counts::Begun("p".into());
        let left = [service, Step::Count, Step::Finish];
        assert_eq!(steps(&state, &config, closed), left, "what is not valid is not there");
        assert_eq!(steps(&state, &config, 1), []);
        state.valid.push("p_service_idx".into());
        (state.is_settled, state.counts) = (true, Counts::Done("p".into()));
        assert_eq!(steps(&state, &config, closed), []);
        state.counts = Counts::None;
        assert_eq!(steps(&state, &config, closed), [Step::Count]);
        config.counts = false;
        assert_eq!(steps(&state, &config, closed), []);
    }
}
