//! `CREATE SCHEMA [IF NOT EXISTS] name [LOCATION 's3://…/']`, which the parser below does not know with a location.

use datafusion::sql::sqlparser::ast::{Ident, ObjectNamePart};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::Step;
use super::depth;
use crate::error::SqlError;

/// The statement, if it is one.
pub(super) fn parse(text: &str) -> Result<Option<Step>, SqlError> {
    let syntax = |e: datafusion::sql::sqlparser::parser::ParserError| SqlError::syntax(e.to_string());
    let tokens = depth::tokens(text)?;
    depth::check(&tokens)?;
    let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens);
    if !parser.parse_keywords(&[Keyword::CREATE, Keyword::SCHEMA]) {
        return Ok(None);
    }
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parser.parse_object_name(false).map_err(syntax)?;
    let [ObjectNamePart::Identifier(name)] = &name.0[..] else {
        return Err(SqlError::syntax("a schema's name is one word"));
    };
    let location = match parser.parse_keyword(Keyword::LOCATION) {
        true => Some(parser.parse_literal_string().map_err(syntax)?),
        false => None,
    };
    while parser.consume_token(&Token::SemiColon) {}
    parser.expect_token(&Token::EOF).map_err(syntax)?;
    Ok(Some(Step::CreateSchema { name: plain(name), location, if_not_exists }))
}

/// An unquoted word in small letters, a quoted one as it is.
pub(crate) fn plain(word: &Ident) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_ascii_lowercase() }
}
