//! One run, taken apart by an axis of its cases, so that the cases of one value can be compared with those of another.

use super::{Sample, Side};

/// What an id's axes are: the text in its brackets taken apart.
fn axes(id: &str) -> Vec<(&str, &str)> {
    let inside = id.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or_default();
    inside.split(',').filter_map(|axis| axis.split_once('=')).collect()
}

/// The values of an axis in a run's cases, in the order in which they come.
pub fn values_of(run: &Side, axis: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for sample in &run.samples {
        for (_, value) in axes(&sample.id).into_iter().filter(|(name, _)| *name == axis) {
            if !values.iter().any(|v| v == value) {
                values.push(value.to_owned());
            }
        }
    }
    values
}

/// The cases of one value of an axis, with the axis taken out of their ids.
pub fn with_value(run: &Side, axis: &str, value: &str) -> Side {
    let own = |sample: &&Sample| axes(&sample.id).contains(&(axis, value));
    let samples = run.samples.iter().filter(own).map(|sample| {
        let name = sample.id.split('[').next().unwrap_or_default();
        let rest: Vec<String> = axes(&sample.id)
            .into_iter()
            .filter(|(name, _)| *name != axis)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let id = if rest.is_empty() { name.to_owned() } else { format!("{name}[{}]", rest.join(",")) };
        Sample { id, ..sample.clone() }
    });
    Side { name: format!("{} with {axis}={value}", run.name), samples: samples.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_taken_apart() {
        let sample = |id: &str| Sample { id: id.to_owned(), ..Sample::default() };
        let run = Side {
            name: "x".to_owned(),
            samples: ["s[arch=a,d=one]", "s[arch=a,d=two]", "s[arch=b,d=one]", "t[d=two]", "u"]
                .map(sample)
                .into(),
        };
        assert_eq!(values_of(&run, "d"), ["one", "two"]);
        assert_eq!(values_of(&run, "arch"), ["a", "b"]);
        assert!(values_of(&run, "e").is_empty());
        let ids = |side: Side| side.samples.into_iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(ids(with_value(&run, "d", "one")), ["s[arch=a]", "s[arch=b]"]);
        assert_eq!(ids(with_value(&run, "d", "two")), ["s[arch=a]", "t"]);
        assert_eq!(with_value(&run, "d", "two").name, "x with d=two");
    }
}
