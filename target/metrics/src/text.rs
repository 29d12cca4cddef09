//! Prometheus's text format, version 0.0.4.

use crate::families::Family;
use std::fmt::{Display, Write};

/// What the answer to a scrape says it is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a sample.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page that is being written.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family; `samples` writes its samples. One without samples is left out.
    pub(crate) fn family(&mut self, family: Family, samples: impl FnOnce(&mut Samples<'_>)) {
        let begin = self.0.len();
        let Family { name, kind, help } = family;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
        let head = self.0.len();
        samples(&mut Samples { text: self, name });
        if self.0.len() == head {
            self.0.truncate(begin);
        }
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: impl Display) {
        let _infallible = writeln!(self.0, "{line}");
    }
}

/// The samples of one family.
pub(crate) struct Samples<'t> {
    text: &'t mut Text,
    name: &'static str,
}

impl Samples<'_> {
    /// One sample.
    pub(crate) fn add(&mut self, labels: Labels<'_>, value: impl Display) {
        self.write("", labels, value);
    }

    /// A histogram: counts up to each border in seconds (not added up yet), the last of them beyond all borders; and
    /// the sum of all values.
    pub(crate) fn histogram(&mut self, labels: Labels<'_>, borders: &[f64], counts: &[u64], sum: f64) {
        let mut so_far = 0;
        let ends = borders.iter().map(|border| border.to_string()).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(counts) {
            so_far += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", end.as_str())]).collect();
            self.write("_bucket", &labels, so_far);
        }
        self.write("_sum", labels, sum);
        self.write("_count", labels, so_far);
    }

    fn write(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.text.line(format_args!("{}{suffix}{labels} {value}", self.name));
    }
}

/// A label's value: names of bdevs may hold anything.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{BDEV_HISTOGRAM, BDEV_IOS, UPTIME};

    #[test]
    fn a_family_is_help_type_and_samples_and_nothing_without_samples() {
        let mut text = Text::default();
        text.family(UPTIME, |_| ());
        text.family(BDEV_IOS, |samples| samples.add(&[("bdev", "a\"b\\c\nd"), ("op", "read")], 7u64));
        assert_eq!(
            text.finish(),
            "# HELP rmr_bdev_ios_total IOs that succeeded.\n# TYPE rmr_bdev_ios_total counter\n\
             rmr_bdev_ios_total{bdev=\"a\\\"b\\\\c\\nd\",op=\"read\"} 7\n"
        );
    }

    #[test]
    fn histograms_add_up_and_end_at_infinity() {
        let mut text = Text::default();
        text.family(BDEV_HISTOGRAM, |samples| {
            samples.histogram(&[("bdev", "a")], &[0.001, 1.0], &[1, 2, 3], 9.5)
        });
        let text = text.finish();
        let name = BDEV_HISTOGRAM.name;
        for line in [
            "_bucket{bdev=\"a\",le=\"0.001\"} 1",
            "_bucket{bdev=\"a\",le=\"1\"} 3",
            "_bucket{bdev=\"a\",le=\"+Inf\"} 6",
            "_sum{bdev=\"a\"} 9.5",
            "_count{bdev=\"a\"} 6",
        ] {
            assert!(text.contains(&format!("{name}{line}\n")), "{line}: {text}");
        }
    }
}
