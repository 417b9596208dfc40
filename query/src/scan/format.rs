//! File formats: which one an object is in, and with what options.
//!
//! Invariant: a format is told by the caller or by the name's ending, never guessed from bytes.

use std::sync::Arc;

use datafusion::common::config::{CsvOptions, JsonOptions};
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use serde::{Deserialize, Serialize};

use crate::error::SqlError;

/// How a table's files are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    /// Which.
    pub(crate) kind: FormatKind,
    /// How they are packed, of CSV and JSON.
    pub(crate) compression: Compression,
    /// How CSV is written.
    pub(crate) csv: Csv,
}

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum FormatKind {
    Parquet,
    Csv,
    /// One JSON object a line.
    Json,
    Arrow,
}

/// How a whole file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

/// How CSV is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Csv {
    /// Whether the first line names the columns.
    pub(crate) header: bool,
    /// Between fields.
    pub(crate) delimiter: u8,
    /// Around fields.
    pub(crate) quote: u8,
    /// Before a quote within a field, in place of a second quote.
    pub(crate) escape: Option<u8>,
    /// What stands for NULL besides nothing at all.
    pub(crate) null: Option<String>,
    /// Whether quoted fields may hold line ends. A file that may is not read in pieces: a piece could begin within a field.
    pub(crate) newlines_in_values: bool,
}

impl Default for Csv {
    fn default() -> Self {
        let newlines_in_values = true;
        Self { header: true, delimiter: b',', quote: b'"', escape: None, null: None, newlines_in_values }
    }
}

impl Format {
    /// A format with the options that most files have.
    pub(crate) fn plain(kind: FormatKind) -> Self {
        Self { kind, compression: Compression::None, csv: Csv::default() }
    }

    /// The same of files that are unpacked before their reader sees them.
    pub(crate) fn unpacked(&self) -> Self {
        Self { compression: Compression::None, ..self.clone() }
    }

    /// By the ending of a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (stem, compression) = match lower.rsplit_once('.')? {
            (stem, "gz") => (stem, Compression::Gzip),
            (stem, "zst" | "zstd") => (stem, Compression::Zstd),
            _ => (lower.as_str(), Compression::None),
        };
        let (_, ending) = stem.rsplit_once('.')?;
        let (kind, csv) = match ending {
            "parquet" | "pq" => (FormatKind::Parquet, Csv::default()),
            "csv" => (FormatKind::Csv, Csv::default()),
            "tsv" => (FormatKind::Csv, Csv { delimiter: b'\t', ..Csv::default() }),
            "json" | "jsonl" | "ndjson" => (FormatKind::Json, Csv::default()),
            "arrow" | "arrows" | "ipc" | "feather" => (FormatKind::Arrow, Csv::default()),
            _ => return None,
        };
        let packs_itself = matches!(kind, FormatKind::Parquet | FormatKind::Arrow);
        (!packs_itself || compression == Compression::None).then_some(Self { kind, compression, csv })
    }

    /// By the word after STORED AS.
    pub(crate) fn of_word(word: &str) -> Result<Self, SqlError> {
        let kind = match word.to_ascii_lowercase().as_str() {
            "parquet" => FormatKind::Parquet,
            "csv" => FormatKind::Csv,
            "json" | "ndjson" | "jsonl" => FormatKind::Json,
            "arrow" => FormatKind::Arrow,
            _ => {
                return Err(
                    SqlError::unsupported(format!("format {word}")).hint("PARQUET, CSV, JSON or ARROW")
                );
            }
        };
        Ok(Self::plain(kind))
    }

    /// Takes one option as a caller wrote it.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let name = name.trim_start_matches("format.").to_ascii_lowercase();
        match name.as_str() {
            "compression" if self.kind == FormatKind::Parquet || self.kind == FormatKind::Arrow => {
                Err(SqlError::invalid("files of this format say themselves how they are packed"))
            }
            "compression" => {
                self.compression = match value.to_ascii_lowercase().as_str() {
                    "none" | "uncompressed" => Compression::None,
                    "gzip" | "gz" => Compression::Gzip,
                    "zstd" | "zst" => Compression::Zstd,
                    _ => {
                        return Err(SqlError::invalid(format!(
                            "compression {value:?} is not gzip, zstd or none"
                        )));
                    }
                };
                Ok(())
            }
            _ if self.kind != FormatKind::Csv => Err(unknown(&name)),
            "header" | "has_header" => boolean(&name, value).map(|value| self.csv.header = value),
            "delimiter" | "delim" | "sep" => byte(&name, value).map(|value| self.csv.delimiter = value),
            "quote" => byte(&name, value).map(|value| self.csv.quote = value),
            "escape" => byte(&name, value).map(|value| self.csv.escape = Some(value)),
            "null" | "nullstr" | "null_value" => {
                self.csv.null = Some(value.to_owned());
                Ok(())
            }
            "newlines_in_values" => boolean(&name, value).map(|value| self.csv.newlines_in_values = value),
            _ => Err(unknown(&name)),
        }
    }

    /// What DataFusion reads and writes it with.
    pub(crate) fn to_datafusion(&self) -> Arc<dyn FileFormat> {
        let compression = self.compression_variant();
        match self.kind {
            FormatKind::Parquet => Arc::new(ParquetFormat::new()),
            FormatKind::Arrow => Arc::new(ArrowFormat),
            FormatKind::Json => Arc::new(
                JsonFormat::default().with_options(JsonOptions { compression, ..JsonOptions::default() }),
            ),
            FormatKind::Csv => Arc::new(CsvFormat::default().with_options(self.csv_options())),
        }
    }

    /// Options of CSV as DataFusion has them.
    pub(crate) fn csv_options(&self) -> CsvOptions {
        CsvOptions {
            has_header: Some(self.csv.header),
            delimiter: self.csv.delimiter,
            quote: self.csv.quote,
            escape: self.csv.escape,
            null_regex: self.csv.null.as_deref().map(exactly),
            null_value: self.csv.null.clone(),
            newlines_in_values: Some(self.csv.newlines_in_values),
            compression: self.compression_variant(),
            ..CsvOptions::default()
        }
    }

    /// How whole files are packed, as DataFusion has it.
    pub(crate) fn packed(&self) -> FileCompressionType {
        FileCompressionType::from(self.compression_variant())
    }

    /// What a name ends with besides its format.
    pub(crate) fn packing_extension(&self) -> &'static str {
        match self.compression {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }

    fn compression_variant(&self) -> CompressionTypeVariant {
        match self.compression {
            Compression::None => CompressionTypeVariant::UNCOMPRESSED,
            Compression::Gzip => CompressionTypeVariant::GZIP,
            Compression::Zstd => CompressionTypeVariant::ZSTD,
        }
    }
}

/// A regular expression that matches this text alone, or nothing.
pub(crate) fn exactly(text: &str) -> String {
    let literal: String = text
        .chars()
        .flat_map(|c| if "\\.+*?()|[]{}^$#&-~".contains(c) { vec!['\\', c] } else { vec![c] })
        .collect();
    format!("^(?:{literal})?$")
}

fn unknown(name: &str) -> SqlError {
    SqlError::invalid(format!("there is no option {name:?} of this format")).hint(
        "CSV takes header, delimiter, quote, escape, null, newlines_in_values; CSV and JSON take compression",
    )
}

fn boolean(name: &str, value: &str) -> Result<bool, SqlError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(SqlError::invalid(format!("{name} is true or false, not {value:?}"))),
    }
}

fn byte(name: &str, value: &str) -> Result<u8, SqlError> {
    match value.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        br"\t" => Ok(b'\t'),
        _ => Err(SqlError::invalid(format!("{name} is one ASCII character, not {value:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let kind = |name| Format::of_name(name).map(|format| (format.kind, format.compression));
        assert_eq!(kind("a/b.parquet"), Some((FormatKind::Parquet, Compression::None)));
        assert_eq!(kind("a/b.CSV.gz"), Some((FormatKind::Csv, Compression::Gzip)));
        assert_eq!(kind("x.jsonl.zst"), Some((FormatKind::Json, Compression::Zstd)));
        assert_eq!(kind("x.parquet.gz"), None);
        assert_eq!(kind("x.txt"), None);
        assert_eq!(kind("x"), None);
        assert_eq!(Format::of_name("x.tsv").unwrap().csv.delimiter, b'\t');
    }

    #[test]
    fn words_for_null_match_themselves() {
        assert_eq!(exactly("<NA>"), "^(?:<NA>)?$");
        assert_eq!(exactly("n/a.é"), r"^(?:n/a\.é)?$");
    }

    #[test]
    fn options_are_checked() {
        let mut csv = Format::plain(FormatKind::Csv);
        csv.set("delimiter", ";").unwrap();
        csv.set("format.has_header", "false").unwrap();
        assert_eq!((csv.csv.delimiter, csv.csv.header), (b';', false));
        assert!(csv.set("delimiter", ";;").is_err());
        assert!(csv.set("colour", "red").is_err());
        assert!(Format::plain(FormatKind::Json).set("header", "true").is_err());
    }
}
