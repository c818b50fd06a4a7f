//! A strict parser of the Prometheus text format, version 0.0.4. It shares no code with the node's
//! writer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Node, http};

/// All metrics of a scrape.
#[derive(Debug)]
pub(crate) struct Exposition {
    families: Vec<Family>,
}

/// A metric family: the samples under one heading.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Node {
    /// Reads the metrics, summed over the nodes. Panics if they break the format.
    pub(crate) fn scrape(&self) -> Exposition {
        let scrapes = self.ports().into_iter().map(|port| {
            let response = http::request(port, "GET", "/metrics", &[], b"");
            assert_eq!(response.status, 200, "GET /metrics");
            let kind = response.header("content-type");
            assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
            let text = response.text();
            Exposition::parse(text).unwrap_or_else(|wrong| panic!("{wrong} in:\n{text}"))
        });
        scrapes.reduce(Exposition::plus).expect("there is a node")
    }
}

impl Exposition {
    /// Adds the samples of another node.
    fn plus(mut self, other: Self) -> Self {
        for family in other.families {
            let Some(own) = self.families.iter_mut().find(|own| own.name == family.name) else {
                self.families.push(family);
                continue;
            };
            for sample in family.samples {
                let same =
                    |own: &&mut Sample| (&own.name, &own.labels) == (&sample.name, &sample.labels);
                match own.samples.iter_mut().find(same) {
                    Some(own) => own.value += sample.value,
                    None => own.samples.push(sample),
                }
            }
        }
        self
    }

    /// Parses a scrape. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut families: Vec<Family> = Vec::new();
        let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
        let mut helped = None;
        for line in body.split('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, _) = rest.split_once(' ').ok_or(format!("help without text: {line}"))?;
                helped = Some(name.to_owned());
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let family = heading(rest, helped.take())?;
                if families.iter().any(|other| other.name == family.name) {
                    return Err(format!("a second heading: {line}"));
                }
                families.push(family);
                continue;
            }
            let sample = sample(line).ok_or(format!("no sample: {line}"))?;
            let family = families.last_mut().ok_or(format!("without a heading: {line}"))?;
            if helped.is_some() || !family.admits(&sample.name) {
                return Err(format!("not under its own heading: {line}"));
            }
            family.samples.push(sample);
        }
        families.iter().try_for_each(Family::check)?;
        Ok(Self { families })
    }

    /// Returns all families in the order of the scrape.
    pub(crate) fn families(&self) -> &[Family] {
        &self.families
    }

    /// Returns the family of this name. Panics if the scrape has no such family.
    pub(crate) fn family(&self, name: &str) -> &Family {
        let found = self.families.iter().find(|family| family.name == name);
        found.unwrap_or_else(|| panic!("no family {name}"))
    }

    /// Returns the value of the sample with this name and exactly these labels. Panics if the
    /// scrape has no such sample.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let is_wanted = |sample: &&Sample| sample.name == name && sample.labels == labels;
        let found = self.families.iter().flat_map(|family| &family.samples).find(is_wanted);
        found.unwrap_or_else(|| panic!("no sample {name} {labels:?}")).value
    }

    /// Returns the value of the sample with this name and no labels.
    pub(crate) fn plain(&self, name: &str) -> f64 {
        self.value(name, &[])
    }

    /// Returns the sum of all samples of a family.
    pub(crate) fn sum(&self, family: &str) -> f64 {
        self.family(family).samples.iter().map(|sample| sample.value).sum()
    }
}

impl Family {
    /// Whether a sample of this name belongs to this family.
    fn admits(&self, sample: &str) -> bool {
        match (self.kind.as_str(), sample.strip_prefix(&self.name)) {
            ("histogram", Some(rest)) => matches!(rest, "_bucket" | "_sum" | "_count"),
            (_, rest) => rest == Some(""),
        }
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{}: {what}", self.name));
        let mut seen = BTreeSet::new();
        if self.samples.is_empty() {
            return wrong("nothing under the heading");
        }
        if !self.samples.iter().all(|sample| seen.insert((&sample.name, &sample.labels))) {
            return wrong("a sample is there twice");
        }
        match self.kind.as_str() {
            "counter" if !self.name.ends_with("_total") => wrong("a counter is a total"),
            "counter" if self.samples.iter().any(|sample| sample.value.is_sign_negative()) => {
                wrong("a counter below nothing")
            }
            "histogram" => self.check_histograms(),
            _ => Ok(()),
        }
    }

    /// Checks the histograms. Each set of labels without `le` is one.
    fn check_histograms(&self) -> Result<(), String> {
        let mut sets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        let (mut sums, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le");
            match (sample.name.strip_prefix(&self.name), bound.and_then(|bound| number(&bound))) {
                (Some("_bucket"), Some(bound)) => {
                    sets.entry(labels).or_default().push((bound, sample.value));
                }
                (Some("_sum"), None) => _ = sums.insert(labels, sample.value),
                (Some("_count"), None) => _ = counts.insert(labels, sample.value),
                _ => return Err(format!("{}: a bound where none belongs, or none", self.name)),
            }
        }
        for (labels, buckets) in &sets {
            let rises = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
            let is_whole = buckets.last().map(|last| last.0) == Some(f64::INFINITY);
            let is_counted = buckets.last().map(|last| last.1) == counts.get(labels).copied();
            let is_summed = sums.get(labels).is_some_and(|sum| *sum >= 0.0);
            if !(rises && is_whole && is_counted && is_summed) {
                return Err(format!("{}: not a histogram: {buckets:?}", self.name));
            }
        }
        match sets.len() == counts.len() && sets.len() == sums.len() {
            true => Ok(()),
            false => Err(format!("{}: a sum or a count without buckets", self.name)),
        }
    }
}

fn heading(rest: &str, helped: Option<String>) -> Result<Family, String> {
    let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {rest}"))?;
    if !is_name(name, true) || !matches!(kind, "counter" | "gauge" | "histogram") {
        return Err(format!("no such type: {rest}"));
    }
    if helped.as_deref() != Some(name) {
        return Err(format!("help belongs before it: {rest}"));
    }
    Ok(Family { name: name.into(), kind: kind.into(), samples: Vec::new() })
}

/// Parses `name value` or `name{label="value",...} value`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = number(value.strip_prefix(' ')?)?;
    is_name(name, true).then(|| Sample { name: name.into(), labels, value })
}

/// Parses labels up to the closing brace, and returns them and the rest.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquote(quoted)?;
        if !is_name(name, false) || labels.insert(name.into(), value).is_some() {
            return None;
        }
        if let Some(after) = after.strip_prefix('}') {
            return Some((labels, after));
        }
        rest = after.strip_prefix(',')?;
    }
}

/// Parses a label's value up to the closing quote, and returns it and the rest.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        value.push(match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            },
            _ => char,
        });
    }
    None
}

/// Parses a number. Rust accepts more than the format, such as `infinity`, which is rejected here.
fn number(text: &str) -> Option<f64> {
    let is_special = matches!(text, "+Inf" | "-Inf" | "NaN");
    let is_plain = text.chars().all(|char| char.is_ascii_digit() || "+-.eE".contains(char));
    (is_special || is_plain).then(|| text.parse().ok()).flatten()
}

fn is_name(name: &str, may_have_colons: bool) -> bool {
    let is_inner = |char: char| {
        char.is_ascii_alphanumeric() || char == '_' || (may_have_colons && char == ':')
    };
    let is_first = |char: char| is_inner(char) && !char.is_ascii_digit();
    name.starts_with(is_first) && name.chars().all(is_inner)
}
