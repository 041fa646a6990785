//! What Nibs must reach, and whether it does. Every goal is a ratio that is to be large enough.

use serde::Serialize;

use super::contender::Contender;
use super::report::Comparison;
use super::target::Kind;

/// Times the throughput of the pipe, on the images that it is meant for.
const PIPE: f64 = 3.0;
const PIPE_IMAGES: [&str; 2] = ["bottlerocket-lz4", "bottlerocket-small-lz4"];
/// Times the throughput of any peer.
const PEER: f64 = 1.0;
/// Of the throughput at the limit.
const LIMIT: f64 = 0.85;
/// The pipe's processor seconds for each of Nibs.
const CPU: f64 = 1.0;

/// A goal for one image and one kind of target.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Goal {
    /// What is to be reached.
    pub goal: String,
    /// Name of the image.
    pub image: String,
    /// Kind of target.
    pub target: Kind,
    /// The ratio.
    pub figure: f64,
    /// What it must be.
    pub at_least: f64,
    /// Whether it is.
    pub reached: bool,
}

/// All goals that can be judged by what was measured.
pub fn goals(comparisons: &[Comparison]) -> Vec<Goal> {
    comparisons.iter().flat_map(judge).collect()
}

fn judge(comparison: &Comparison) -> Vec<Goal> {
    let goal = |goal: String, figure: f64, at_least: f64| Goal {
        goal,
        image: comparison.image.name.clone(),
        target: comparison.target,
        figure,
        at_least,
        reached: figure >= at_least,
    };
    let mut goals = Vec::new();
    let seconds = |contender| comparison.figure(contender, |run| run.seconds);
    let cpu_seconds = |contender| comparison.figure(contender, |run| run.cpu_seconds);
    let nibs = seconds(Contender::Nibs);
    if PIPE_IMAGES.contains(&comparison.image.name.as_str()) {
        let figure = seconds(Contender::Pipe) / nibs;
        goals.push(goal("throughput of the pipe".into(), figure, PIPE));
    }
    // A peer that leaves something else on the disk, or has no end, is no measure.
    let peers = comparison.entries.iter();
    let peers = peers.filter(|entry| entry.contender != Contender::Nibs && entry.fault.is_none());
    let peers = peers.filter_map(|entry| Some((&entry.name, entry.median?.seconds)));
    if let Some((name, seconds)) = peers.min_by(|a, b| a.1.total_cmp(&b.1)) {
        let what = format!("throughput of the fastest peer, {name}");
        goals.push(goal(what, seconds / nibs, PEER));
    }
    let what = format!("throughput at the limit, {}", comparison.limit.stage());
    goals.push(goal(what, comparison.limit.seconds() / nibs, LIMIT));
    let figure = cpu_seconds(Contender::Pipe) / cpu_seconds(Contender::Nibs);
    goals.push(goal("CPU seconds of the pipe".into(), figure, CPU));
    goals
}

#[cfg(test)]
mod tests {
    use super::super::figures::Run;
    use super::super::images::{Format, Image};
    use super::super::limit::Limit;
    use super::super::report::Entry;
    use super::*;

    fn comparison(image: &str, entries: &[(Contender, f64, Option<&str>)]) -> Comparison {
        let image = Image {
            name: image.into(),
            on: vec![Kind::File],
            format: Format::Lz4,
            size: 1 << 30,
            data: 1 << 20,
            raw: String::new(),
            served: String::new(),
            served_size: 1 << 19,
            served_sha256: String::new(),
            bmap: String::new(),
        };
        let entry = |&(contender, seconds, fault): &(Contender, f64, Option<&str>)| Entry {
            contender,
            name: contender.name(Format::Lz4).into(),
            runs: vec![],
            median: Some(Run {
                seconds,
                cpu_seconds: 2.0 * seconds,
                written: 0.0,
                peak_largest: 0.0,
                peak_sum: 0.0,
            }),
            fault: fault.map(str::to_owned),
        };
        let limit = Limit { fetch: 0.5, decode: 1.0, write: 0.25 };
        let entries = entries.iter().map(entry).collect();
        Comparison { image, target: Kind::File, limit, entries }
    }

    fn summary(goals: &[Goal]) -> Vec<(&str, f64, bool)> {
        goals.iter().map(|goal| (goal.goal.as_str(), goal.figure, goal.reached)).collect()
    }

    #[test]
    fn nibs_is_held_against_the_pipe_the_fastest_peer_and_the_limit() {
        let entries = [
            (Contender::Nibs, 2.0, None),
            (Contender::Pipe, 8.0, None),
            (Contender::Dd, 1.5, None),
        ];
        let goals = goals(&[comparison(PIPE_IMAGES[0], &entries)]);
        let expected = [
            ("throughput of the pipe", 4.0, true),
            ("throughput of the fastest peer, dd (raw, local)", 0.75, false),
            ("throughput at the limit, decode", 0.5, false),
            ("CPU seconds of the pipe", 4.0, true),
        ];
        assert_eq!(summary(&goals), expected);
    }

    #[test]
    fn a_peer_that_leaves_something_else_does_not_count() {
        let entries = [
            (Contender::Nibs, 1.0, None),
            (Contender::Pipe, 2.0, None),
            (Contender::BmaptoolMap, 0.1, Some("old data")),
        ];
        let goals = goals(&[comparison("another", &entries)]);
        let expected = [
            ("throughput of the fastest peer, curl, lz4, dd", 2.0, true),
            ("throughput at the limit, decode", 1.0, true),
            ("CPU seconds of the pipe", 2.0, true),
        ];
        assert_eq!(summary(&goals), expected);
    }

    #[test]
    fn a_pipe_without_end_is_no_goal_reached() {
        let entries = [(Contender::Nibs, 1.0, None), (Contender::Pipe, 2.0, Some("no end"))];
        let mut comparison = comparison(PIPE_IMAGES[1], &entries);
        comparison.entries[1].median = None;
        let goals = goals(&[comparison]);
        let reached: Vec<_> = goals.iter().map(|goal| (goal.goal.as_str(), goal.reached)).collect();
        let expected = [
            ("throughput of the pipe", false),
            ("throughput at the limit, decode", true),
            ("CPU seconds of the pipe", false),
        ];
        assert_eq!(reached, expected);
    }
}
