//! `COPY … TO STDOUT`: rows as PostgreSQL's three copy formats have them.
//!
//! Invariant: an option that is accepted is in force, others are refused. COPY to a location is the session's.

use arrow::array::timezone::Tz;
use ashlar_query::SqlError;
use bytes::{BufMut, BytesMut};
use datafusion::sql::sqlparser::ast::{CopyOption, CopySource, CopyTarget, Statement as Ast};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::backend;
use super::cells::Cells;
use super::rows::Unwritten;
use super::{binary_format, text_format};

/// Deepest nesting of a statement.
const DEPTH_MAX: usize = 64;
/// Signature, no flags, no further header.
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyFormat {
    Text { delimiter: u8, null: String, has_header: bool },
    Csv { delimiter: u8, null: String, has_header: bool, quote: u8 },
    Binary,
}

/// The query and format of a COPY to the client; `None`: the statement is another.
pub(super) fn of(text: &str) -> Option<Result<(String, CopyFormat), SqlError>> {
    let first = text.split_whitespace().next()?;
    if !first.eq_ignore_ascii_case("copy") {
        return None;
    }
    let parsed = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH_MAX)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statement());
    let Ok(Ast::Copy { source, to, target, options, legacy_options, .. }) = parsed else { return None };
    match target {
        CopyTarget::Stdin => Some(Err(SqlError::unsupported("COPY FROM STDIN")
            .hint("put an object by S3 and INSERT INTO … SELECT from it"))),
        CopyTarget::Stdout if to && legacy_options.is_empty() => {
            Some(format(&options).map(|format| (query(source), format)))
        }
        CopyTarget::Stdout => Some(Err(
            SqlError::unsupported("this form of COPY").hint("COPY (…) TO STDOUT (FORMAT csv, HEADER)")
        )),
        _ => None,
    }
}

fn query(source: CopySource) -> String {
    match source {
        CopySource::Query(query) => query.to_string(),
        CopySource::Table { table_name, columns } if columns.is_empty() => {
            format!("SELECT * FROM {table_name}")
        }
        CopySource::Table { table_name, columns } => {
            let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
            format!("SELECT {} FROM {table_name}", columns.join(", "))
        }
    }
}

fn format(options: &[CopyOption]) -> Result<CopyFormat, SqlError> {
    let name = options.iter().find_map(|option| match option {
        CopyOption::Format(name) => Some(name.value.to_ascii_lowercase()),
        _ => None,
    });
    let name = name.as_deref().unwrap_or("text");
    let is_csv = match name {
        "csv" => true,
        "text" => false,
        "binary" if options.len() == 1 => return Ok(CopyFormat::Binary),
        _ => {
            return Err(SqlError::invalid(format!(
                "COPY does not know the format {name:?} with these options"
            )));
        }
    };
    let (mut delimiter, mut quote) = (if is_csv { b',' } else { b'\t' }, b'"');
    let (mut null, mut has_header) = (if is_csv { "" } else { "\\N" }.to_owned(), false);
    let byte = |c: char| {
        u8::try_from(c)
            .ok()
            .filter(u8::is_ascii)
            .ok_or_else(|| SqlError::invalid("COPY takes one ASCII character"))
    };
    for option in options {
        match option {
            CopyOption::Format(_) => {}
            CopyOption::Delimiter(c) => delimiter = byte(*c)?,
            CopyOption::Null(text) => null.clone_from(text),
            CopyOption::Header(header) => has_header = *header,
            CopyOption::Quote(c) if is_csv => quote = byte(*c)?,
            CopyOption::Encoding(name) if name.to_ascii_lowercase().replace('-', "") == "utf8" => {}
            other => return Err(SqlError::unsupported(format!("COPY with {other}"))),
        }
    }
    Ok(match is_csv {
        true => CopyFormat::Csv { delimiter, null, has_header, quote },
        false => CopyFormat::Text { delimiter, null, has_header },
    })
}

impl CopyFormat {
    /// Whether values are in binary.
    pub(super) fn is_binary(&self) -> bool {
        *self == Self::Binary
    }

    /// Before the first row.
    pub(super) fn begin(&self, names: &[String], out: &mut BytesMut) {
        backend::message(out, b'H', |out| {
            out.put_u8(u8::from(self.is_binary()));
            out.put_u16(u16::try_from(names.len()).unwrap_or(u16::MAX));
            names.iter().for_each(|_| out.put_u16(u16::from(self.is_binary())));
        });
        match self {
            Self::Text { has_header: true, .. } | Self::Csv { has_header: true, .. } => {
                backend::message(out, b'd', |out| {
                    let names = names.iter().map(|name| Some(name.as_bytes()));
                    self.line(names.map(|name| name.map(<[u8]>::to_vec)), out);
                });
            }
            _ => {}
        }
    }

    /// After the last row, of so many.
    pub(super) fn end(&self, rows: u64, out: &mut BytesMut) {
        if self.is_binary() {
            backend::message(out, b'd', |out| {
                if rows == 0 {
                    out.put_slice(BINARY_HEADER);
                }
                out.put_i16(-1);
            });
        }
        backend::plain(out, b'c');
    }

    /// One row, without what frames it; `is_first` of all.
    pub(super) fn row(
        &self,
        cells: &[Cells],
        row: usize,
        is_first: bool,
        zone: Tz,
        out: &mut BytesMut,
    ) -> Result<(), Unwritten> {
        if self.is_binary() {
            // As PostgreSQL sends it: some clients look for the header before the first row and nowhere else.
            if is_first {
                out.put_slice(BINARY_HEADER);
            }
            out.put_u16(u16::try_from(cells.len()).unwrap_or(u16::MAX));
            for cells in cells {
                if cells.is_null(row) {
                    out.put_i32(-1);
                } else {
                    binary_format::sized(out, |out| binary_format::write(cells, row, out))?;
                }
            }
            return Ok(());
        }
        let mut values = Vec::with_capacity(cells.len());
        for cells in cells {
            if cells.is_null(row) {
                values.push(None);
                continue;
            }
            let mut value = BytesMut::new();
            text_format::write(cells, row, zone, &mut value)?;
            values.push(Some(value.to_vec()));
        }
        self.line(values.into_iter(), out);
        Ok(())
    }

    fn line(&self, values: impl Iterator<Item = Option<Vec<u8>>>, out: &mut BytesMut) {
        for (at, value) in values.enumerate() {
            match self {
                Self::Text { delimiter, null, .. } => {
                    if at > 0 {
                        out.put_u8(*delimiter);
                    }
                    match value {
                        None => out.put_slice(null.as_bytes()),
                        Some(value) => escaped(&value, *delimiter, out),
                    }
                }
                Self::Csv { delimiter, null, quote, .. } => {
                    if at > 0 {
                        out.put_u8(*delimiter);
                    }
                    match value {
                        None => out.put_slice(null.as_bytes()),
                        Some(value) => quoted(&value, null.as_bytes(), *delimiter, *quote, out),
                    }
                }
                Self::Binary => {}
            }
        }
        out.put_u8(b'\n');
    }
}

fn escaped(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    for byte in value {
        let letter = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            11 => b'v',
            12 => b'f',
            byte if *byte == delimiter => delimiter,
            byte => {
                out.put_u8(*byte);
                continue;
            }
        };
        out.put_u8(b'\\');
        out.put_u8(letter);
    }
}

/// Quoted where it could be read as something else: also what looks like NULL.
fn quoted(value: &[u8], null: &[u8], delimiter: u8, quote: u8, out: &mut BytesMut) {
    let is_special = |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
    if value != null && !value.iter().any(is_special) && value != b"\\." {
        return out.put_slice(value);
    }
    out.put_u8(quote);
    for byte in value {
        if *byte == quote {
            out.put_u8(quote);
        }
        out.put_u8(*byte);
    }
    out.put_u8(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_to_the_client_are_known_from_others() {
        let (query, format) = of("COPY (SELECT 1) TO STDOUT (FORMAT binary)").unwrap().unwrap();
        assert_eq!((query.as_str(), format), ("SELECT 1", CopyFormat::Binary));
        let (query, format) = of("copy t (a, b) to stdout with (format csv, header)").unwrap().unwrap();
        assert_eq!(query, "SELECT a, b FROM t");
        assert!(matches!(format, CopyFormat::Csv { has_header: true, .. }));
        assert!(of("COPY t FROM STDIN").unwrap().is_err());
        assert!(of("COPY t TO STDOUT (FORMAT csv, FORCE_QUOTE (a))").unwrap().is_err());
        for other in ["COPY t TO 's3://b/p/' STORED AS PARQUET", "COPY t TO 's3://b/x.csv'", "SELECT 1"] {
            assert!(of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn what_could_be_misread_is_escaped_or_quoted() {
        let line = |format: &CopyFormat| {
            let values = [Some(&b"a,b\t\"c\""[..]), None, Some(b""), Some(b"\\N"), Some(b"x\ny")];
            let mut out = BytesMut::new();
            format.line(values.into_iter().map(|value| value.map(<[u8]>::to_vec)), &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let text = CopyFormat::Text { delimiter: b'\t', null: "\\N".into(), has_header: false };
        assert_eq!(line(&text), "a,b\\t\"c\"\t\\N\t\t\\\\N\tx\\ny\n");
        let csv = CopyFormat::Csv { delimiter: b',', null: String::new(), has_header: false, quote: b'"' };
        assert_eq!(line(&csv), "\"a,b\t\"\"c\"\"\",,\"\",\\N,\"x\ny\"\n");
    }
}
