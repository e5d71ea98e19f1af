//! The catalog of GPUs and models: two shipped tables, and what the configuration says on top of them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::io::config::check::Violation;
use crate::io::config::error::Problem;
use crate::io::config::keys::{join, nearest};
use crate::io::config::text::{GpuEntry, ModelEntry, NumberFormat};
use crate::model::deployment::{Backend, Deployment, Experts, Format, Gpu, Llm};
use crate::model::timing::Identity;

const GPUS: &str = include_str!("../../../configs/catalog/gpus.toml");
const MODELS: &str = include_str!("../../../configs/catalog/models.toml");

/// What a configuration can name.
#[derive(Clone, PartialEq, Debug)]
pub struct Catalog {
    /// By name.
    gpus: BTreeMap<String, Gpu>,
    models: BTreeMap<String, Llm>,
}

impl Catalog {
    /// The shipped catalog with changes and additions.
    ///
    /// # Errors
    /// If an entry lacks something, or has a value that cannot be.
    pub(super) fn new(
        gpus: &BTreeMap<String, GpuEntry>,
        models: &BTreeMap<String, ModelEntry>,
    ) -> Result<Catalog, Violation> {
        static SHIPPED: OnceLock<Catalog> = OnceLock::new();
        let mut catalog = SHIPPED.get_or_init(Catalog::shipped).clone();
        for (name, entry) in gpus {
            let base = shipped_gpus().remove(name).unwrap_or_default();
            catalog.gpus.insert(name.clone(), gpu(name, entry.clone().over(base))?);
        }
        for (name, entry) in models {
            let base = shipped_models().remove(name).unwrap_or_default();
            catalog.models.insert(name.clone(), model(name, entry.clone().over(base))?);
        }
        Ok(catalog)
    }

    /// The shipped catalog.
    pub fn shipped() -> Catalog {
        let correct = "the shipped catalog is tested";
        let gpus = shipped_gpus().into_iter();
        let gpus = gpus.map(|(name, entry)| (name.clone(), gpu(&name, entry).expect(correct)));
        let models = shipped_models().into_iter();
        let models =
            models.map(|(name, entry)| (name.clone(), model(&name, entry).expect(correct)));
        Catalog { gpus: gpus.collect(), models: models.collect() }
    }

    /// What a timing table is about, if both its GPU and its model are known. Names of tables are the same whatever is in
    /// capitals.
    pub fn deployment(&self, table: &Identity) -> Option<Deployment> {
        Some(Deployment {
            model: whatever_the_case(&self.models, &table.model)?.clone(),
            gpu: whatever_the_case(&self.gpus, &table.gpu)?.clone(),
            backend: Backend::default(),
            tp: table.tp,
            pp: 1,
            attention_dp: 1,
        })
    }

    /// All GPUs, by name.
    pub fn gpus(&self) -> impl Iterator<Item = &Gpu> {
        self.gpus.values()
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Llm> {
        self.models.values()
    }

    /// A GPU by its name.
    pub(super) fn gpu(&self, name: &str) -> Result<&Gpu, Violation> {
        self.gpus.get(name).ok_or_else(|| unknown("engine.gpu", name, self.gpus.keys(), "gpus"))
    }

    /// A model by its name.
    pub(super) fn model(&self, name: &str) -> Result<&Llm, Violation> {
        let known = self.models.keys();
        self.models.get(name).ok_or_else(|| unknown("engine.model", name, known, "models"))
    }
}

fn whatever_the_case<'a, T>(entries: &'a BTreeMap<String, T>, name: &str) -> Option<&'a T> {
    let same = || entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    entries.get(name).or_else(|| same().map(|(_, entry)| entry))
}

fn shipped_gpus() -> BTreeMap<String, GpuEntry> {
    toml::from_str(GPUS).expect("the shipped catalog is tested")
}

fn shipped_models() -> BTreeMap<String, ModelEntry> {
    toml::from_str(MODELS).expect("the shipped catalog is tested")
}

/// A complaint about a name that is not in a list of known ones.
pub(super) fn unknown<'a>(
    key: &str,
    name: &str,
    known: impl Iterator<Item = &'a String>,
    section: &str,
) -> Violation {
    let known: Vec<String> = known.cloned().collect();
    let near =
        nearest(name, &known).map_or(String::new(), |near| format!("; did you mean {near}?"));
    let expected =
        format!("one of {}, or a name with a section [{section}.NAME]{near}", known.join(", "));
    let problem = Problem::Value { found: format!("{name:?}"), expected };
    Violation { key: key.to_owned(), problem }
}

/// The fields of an entry, each of which has to be there and within its range.
struct Fields {
    path: String,
}

impl Fields {
    fn new(section: &str, name: &str) -> Fields {
        Fields { path: join(section, name) }
    }

    fn wrong(&self, field: &str, found: String, expected: &str) -> Violation {
        let problem = Problem::Value { found, expected: expected.to_owned() };
        Violation { key: join(&self.path, field), problem }
    }

    fn required<T>(&self, field: &str, value: Option<T>) -> Result<T, Violation> {
        value.ok_or_else(|| {
            let reason = format!("lacks {field}, and the catalog has no entry to take it from");
            Violation::contradiction(&self.path, reason)
        })
    }

    /// A number above zero.
    fn number(&self, field: &str, value: f64) -> Result<f64, Violation> {
        let is_right = value.is_finite() && value > 0.0 && value <= 1e9;
        let wrong = || self.wrong(field, format!("{value:?}"), "a number above 0 and up to 10^9");
        if is_right { Ok(value) } else { Err(wrong()) }
    }

    fn required_number(&self, field: &str, value: Option<f64>) -> Result<f64, Violation> {
        self.number(field, self.required(field, value)?)
    }

    fn optional_number(&self, field: &str, value: Option<f64>) -> Result<Option<f64>, Violation> {
        value.map(|value| self.number(field, value)).transpose()
    }

    /// A whole number from `least` on; so large a one that sums of a few do not overflow is a slip of the hand.
    fn count(&self, field: &str, value: Option<u64>, least: u64) -> Result<u64, Violation> {
        let value = self.required(field, value)?;
        if (least..=1 << 50).contains(&value) {
            return Ok(value);
        }
        Err(self.wrong(field, value.to_string(), &format!("a whole number from {least} to 2^50")))
    }

    /// A dimension of a model.
    fn size(&self, field: &str, value: Option<u32>) -> Result<u32, Violation> {
        let value = self.required(field, value)?;
        if (1..=1 << 20).contains(&value) {
            return Ok(value);
        }
        Err(self.wrong(field, value.to_string(), "a whole number from 1 to 2^20"))
    }
}

fn gpu(name: &str, entry: GpuEntry) -> Result<Gpu, Violation> {
    let fields = Fields::new("gpus", name);
    let usd = entry.usd_per_hour;
    if let Some(usd) = usd.filter(|usd| !(usd.is_finite() && *usd >= 0.0)) {
        return Err(fields.wrong("usd_per_hour", format!("{usd:?}"), "a number, 0 or more"));
    }
    Ok(Gpu {
        name: name.to_owned(),
        memory_bytes: fields.count("memory_bytes", entry.memory_bytes, 1)?,
        memory_gb_s: fields.required_number("memory_gb_s", entry.memory_gb_s)?,
        bf16_tflops: fields.required_number("bf16_tflops", entry.bf16_tflops)?,
        fp8_tflops: fields.optional_number("fp8_tflops", entry.fp8_tflops)?,
        fp4_tflops: fields.optional_number("fp4_tflops", entry.fp4_tflops)?,
        link_gb_s: fields.required_number("link_gb_s", entry.link_gb_s)?,
        usd_per_hour: usd,
        usd_date: entry.usd_date,
        source: entry.source,
    })
}

fn model(name: &str, entry: ModelEntry) -> Result<Llm, Violation> {
    let fields = Fields::new("models", name);
    let parameters = fields.count("parameters", entry.parameters, 1)?;
    let active_parameters = entry.active_parameters.unwrap_or(parameters);
    if !(1..=parameters).contains(&active_parameters) {
        let found = active_parameters.to_string();
        return Err(fields.wrong(
            "active_parameters",
            found,
            "a whole number from 1 to parameters",
        ));
    }
    let weight_bytes = fields.count("weight_bytes", entry.weight_bytes, 1)?;
    let replicated_bytes = entry.replicated_bytes.unwrap_or(0);
    if replicated_bytes > weight_bytes {
        let found = replicated_bytes.to_string();
        return Err(fields.wrong(
            "replicated_bytes",
            found,
            "a whole number from 0 to weight_bytes",
        ));
    }
    let layers = fields.size("layers", entry.layers)?;
    let kv_layers = entry.kv_layers.unwrap_or(layers);
    if !(1..=layers).contains(&kv_layers) {
        let found = kv_layers.to_string();
        return Err(fields.wrong("kv_layers", found, "a whole number from 1 to layers"));
    }
    Ok(Llm {
        name: name.to_owned(),
        layers,
        kv_layers,
        hidden_size: fields.size("hidden_size", entry.hidden_size)?,
        heads: fields.size("heads", entry.heads)?,
        kv_heads: fields.size("kv_heads", entry.kv_heads)?,
        head_dim: fields.size("head_dim", entry.head_dim)?,
        mla_width: match entry.mla_width {
            Some(width) => Some(fields.size("mla_width", Some(width))?),
            None => None,
        },
        parameters,
        active_parameters,
        experts: experts(&fields, &entry)?,
        weight_format: format(fields.required("weight_format", entry.weight_format)?),
        kv_format: format(fields.required("kv_format", entry.kv_format)?),
        weight_bytes,
        replicated_bytes,
        source: entry.source,
    })
}

fn experts(fields: &Fields, entry: &ModelEntry) -> Result<Option<Experts>, Violation> {
    if entry.experts.is_none() && entry.active_experts.is_none() {
        return Ok(None);
    }
    let total = fields.size("experts", entry.experts)?;
    let active = fields.size("active_experts", entry.active_experts)?;
    if active >= total {
        let found = active.to_string();
        return Err(fields.wrong("active_experts", found, "a whole number below experts"));
    }
    Ok(Some(Experts { total, active }))
}

fn format(format: NumberFormat) -> Format {
    match format {
        NumberFormat::Bf16 => Format::Bf16,
        NumberFormat::Fp8 => Format::Fp8,
        NumberFormat::Fp4 => Format::Fp4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_entry_is_complete() {
        let catalog = Catalog::shipped();
        assert_eq!((catalog.gpus.len(), catalog.models.len()), (6, 8));
        for gpu in catalog.gpus() {
            assert!(gpu.source.is_some() && gpu.usd_per_hour.is_some() && gpu.usd_date.is_some());
        }
        for model in catalog.models() {
            assert!(model.source.is_some() && model.heads.is_multiple_of(model.kv_heads));
            assert_eq!(model.experts.is_some(), model.active_parameters < model.parameters);
        }
    }

    #[test]
    fn an_entry_is_changed_in_part() {
        let mut gpus = BTreeMap::new();
        let price = GpuEntry { usd_per_hour: Some(1.0), ..GpuEntry::default() };
        gpus.insert("h200_sxm".to_owned(), price.clone());
        let catalog = Catalog::new(&gpus, &BTreeMap::new()).unwrap();
        let (changed, shipped) = (&catalog.gpus["h200_sxm"], &Catalog::shipped().gpus["h200_sxm"]);
        assert_eq!((changed.usd_per_hour, &changed.usd_date), (Some(1.0), &None));
        let restored = Gpu {
            usd_per_hour: shipped.usd_per_hour,
            usd_date: shipped.usd_date.clone(),
            ..changed.clone()
        };
        assert_eq!(&restored, shipped);
        gpus.insert("abacus".to_owned(), price);
        let violation = Catalog::new(&gpus, &BTreeMap::new()).unwrap_err();
        assert_eq!(violation.key, "gpus.abacus");
    }
}
