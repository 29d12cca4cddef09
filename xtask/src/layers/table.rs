//! `layers.toml` as data.

use serde::Deserialize;

use crate::error::Error;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layers {
    /// From the lowest up.
    pub(crate) layer: Vec<Layer>,
    pub(crate) beside: Beside,
    pub(crate) rules: Rules,
}

/// One layer. Its crates use crates of lower layers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    pub(crate) name: String,
    #[serde(rename = "what")]
    _what: String,
    pub(crate) crates: Vec<String>,
    /// If given: the only layers that may use this one (what is beside may, always).
    pub(crate) used_by: Option<Vec<String>>,
}

/// Crates beside the layers: they use what they like, the layers use them in tests only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Beside {
    #[serde(rename = "what")]
    _what: String,
    pub(crate) crates: Vec<String>,
}

/// What the order of the layers does not say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// The crates that may hold unsafe code.
    #[serde(rename = "unsafe")]
    pub(crate) unsafe_crates: Vec<String>,
    pub(crate) sideways: Vec<Sideways>,
    pub(crate) only: Vec<Only>,
}

/// A dependency the layers alone would refuse.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sideways {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) why: String,
}

/// The crate builds with no other crate of ours than these (tests may use more).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Only {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) may: Vec<String>,
}

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the layer with this index, 0 the lowest.
    Layer(usize),
    /// Beside the layers.
    Beside,
}

impl Layers {
    /// Reads the text of `layers.toml`; `what` names it in errors.
    pub(crate) fn parse(what: &str, text: &str) -> Result<Layers, Error> {
        toml::from_str(text).map_err(|reason| Error::form(what, reason))
    }

    /// Every crate in the table with its place, in the order of the file; a crate named twice comes twice.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, Place)> {
        let layered = self.layer.iter().enumerate().flat_map(|(index, layer)| {
            layer.crates.iter().map(move |name| (name.as_str(), Place::Layer(index)))
        });
        layered.chain(self.beside.crates.iter().map(|name| (name.as_str(), Place::Beside)))
    }

    /// The place of one crate.
    pub(crate) fn place(&self, name: &str) -> Option<Place> {
        self.places().find(|(known, _)| *known == name).map(|(_, place)| place)
    }

    /// A place in words.
    pub(crate) fn show(&self, place: Place) -> String {
        match place {
            Place::Layer(index) => format!("layer {index} ({})", self.layer[index].name),
            Place::Beside => "beside".to_owned(),
        }
    }
}
