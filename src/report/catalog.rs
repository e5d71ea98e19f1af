//! The catalog of GPUs and models, as tables and as JSON.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::{Map, Value, json};

use crate::model::deployment::{Gpu, Llm};
use crate::report::json::known;
use crate::report::number::{fixed, or_dash};
use crate::report::table::table;

const NAME_WIDTH: ColumnConstraint = ColumnConstraint::LowerBoundary(Width::Fixed(20));

/// Writes a line per GPU and a line per model.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_catalog(out: &mut impl Write, gpus: &[&Gpu], models: &[&Llm]) -> io::Result<()> {
    writeln!(out, "{}", gpu_table(gpus))?;
    writeln!(out, "{}", model_table(models))
}

fn wide(header: &[&str]) -> Table {
    let mut table = table(header);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if let Some(column) = table.column_mut(0) {
        column.set_constraint(NAME_WIDTH);
    }
    if let Some(column) = table.column_mut(header.len() - 1) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    table
}

fn gpu_table(gpus: &[&Gpu]) -> Table {
    let mut table = wide(&[
        "GPU",
        "Memory\nGiB",
        "Memory\nGB/s",
        "bf16\nTFLOP/s",
        "fp8\nTFLOP/s",
        "fp4\nTFLOP/s",
        "Link\nGB/s",
        "USD/h",
        "Source",
    ]);
    for gpu in gpus {
        let number = |figure: f64| fixed(figure, 0);
        let date = gpu.usd_date.as_ref().map(|date| format!(" ({date})")).unwrap_or_default();
        table.add_row([
            gpu.name.clone(),
            number(gpu.memory_bytes as f64 / (1_u64 << 30) as f64),
            number(gpu.memory_gb_s),
            number(gpu.bf16_tflops),
            or_dash(gpu.fp8_tflops.map(number)),
            or_dash(gpu.fp4_tflops.map(number)),
            number(gpu.link_gb_s),
            or_dash(gpu.usd_per_hour.map(|usd| fixed(usd, 2) + &date)),
            or_dash(gpu.source.clone()),
        ]);
    }
    table
}

fn model_table(models: &[&Llm]) -> Table {
    let mut table = wide(&[
        "Model",
        "Layers",
        "Hidden",
        "Heads",
        "KV heads\nx width",
        "Experts",
        "Parameters\n(active) 10^9",
        "Weights\nformat, GB",
        "KV",
        "Source",
    ]);
    for model in models {
        let billions = |figure: f64| fixed(figure / 1e9, 1);
        let (all, active) = (model.parameters as f64, model.active_parameters as f64);
        table.add_row([
            model.name.clone(),
            model.layers.to_string(),
            model.hidden_size.to_string(),
            model.heads.to_string(),
            match model.mla_width {
                Some(width) => format!("MLA {width}"),
                None => format!("{} x {}", model.kv_heads, model.head_dim),
            },
            or_dash(model.experts.map(|experts| format!("{}/{}", experts.active, experts.total))),
            format!("{} ({})", billions(all), billions(active)),
            format!("{}, {}", model.weight_format, billions(model.weight_bytes as f64)),
            model.kv_format.to_string(),
            or_dash(model.source.clone()),
        ]);
    }
    table
}

/// The catalog as JSON, under the names of the configuration's keys.
pub fn catalog_to_json(gpus: &[&Gpu], models: &[&Llm]) -> Value {
    let gpus = gpus.iter().map(|gpu| (gpu.name.clone(), gpu_to_json(gpu)));
    let models = models.iter().map(|model| (model.name.clone(), model_to_json(model)));
    json!({"gpus": gpus.collect::<Map<_, _>>(), "models": models.collect::<Map<_, _>>()})
}

fn gpu_to_json(gpu: &Gpu) -> Value {
    known(json!({
        "memory_bytes": gpu.memory_bytes,
        "memory_gb_s": gpu.memory_gb_s,
        "bf16_tflops": gpu.bf16_tflops,
        "fp8_tflops": gpu.fp8_tflops,
        "fp4_tflops": gpu.fp4_tflops,
        "link_gb_s": gpu.link_gb_s,
        "usd_per_hour": gpu.usd_per_hour,
        "usd_date": gpu.usd_date,
        "source": gpu.source,
    }))
}

fn model_to_json(model: &Llm) -> Value {
    known(json!({
        "layers": model.layers,
        "kv_layers": model.kv_layers,
        "hidden_size": model.hidden_size,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "mla_width": model.mla_width,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "experts": model.experts.map(|experts| experts.total),
        "active_experts": model.experts.map(|experts| experts.active),
        "weight_format": model.weight_format.to_string(),
        "kv_format": model.kv_format.to_string(),
        "weight_bytes": model.weight_bytes,
        "replicated_bytes": model.replicated_bytes,
        "source": model.source,
    }))
}
