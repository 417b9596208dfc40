//! From a statement's text to what answers it.
//!
//! Invariant: a client that leaves, or cancels, is not planned for.

use ashlar_query::{SqlError, SqlState};
use tokio_util::sync::CancellationToken;

use super::backend;
use super::connection::Connection;
use super::copy;
use super::running::Fault;
use super::split::split;
use super::statement::{self, Kind, Own, Statement};

impl Connection {
    /// Plans one statement.
    pub(super) async fn prepare(&mut self, text: &str, types: &[u32]) -> Result<Statement, Fault> {
        let cancel = self.registered.begin();
        let prepared = self.prepare_inner(text, types, &cancel).await;
        self.registered.end();
        if let Err(Fault::Sql(error)) = prepared {
            let before = split(text).first().and_then(|one| text.find(one)).unwrap_or(0);
            let before = text[..before].chars().count();
            self.position = backend::position(&error.message, text[..].trim()).map(|at| at + before);
            return Err(self.failed(error));
        }
        prepared
    }

    async fn prepare_inner(
        &mut self,
        text: &str,
        types: &[u32],
        cancel: &CancellationToken,
    ) -> Result<Statement, Fault> {
        let kept = |kind, parameters| Statement { kind, parameters };
        let mut statements = split(text).into_iter();
        let Some(one) = statements.next() else { return Ok(kept(Kind::Empty, Vec::new())) };
        if statements.next().is_some() {
            let error = SqlError::syntax("more than one statement at once").hint("prepare them one by one");
            return Err(error.into());
        }
        if let Some(copy) = copy::of(one) {
            let (query, format) = copy?;
            self.shared.keeper.still(&self.proven).await?;
            let prepared = self.session.prepare(&query).await?;
            return Ok(kept(Kind::Copy(prepared, format), Vec::new()));
        }
        if let Some(own) = Own::of(one) {
            return Ok(kept(Kind::Own(own), Vec::new()));
        }
        let typed = statement::with_types(one, types)?;
        self.shared.keeper.still(&self.proven).await?;
        let catalog = &self.shared.catalog;
        let work = async {
            if catalog.concerns(one) {
                let prepared = catalog.prepare(&mut self.session, &mut self.seen, &typed).await?;
                let parameters = statement::parameters(types, prepared.parameter_types());
                return Ok(kept(Kind::Catalog(Box::new(prepared)), parameters));
            }
            let prepared = self.session.prepare(&typed).await?;
            let parameters = statement::parameters(types, prepared.parameter_types());
            Ok::<_, SqlError>(kept(Kind::Session(prepared), parameters))
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                let error = SqlError::new(SqlState::QueryCanceled, "the statement was cancelled by its user");
                Err(error.into())
            }
            gone = self.inbox.gone() => Err(gone.into()),
            prepared = work => Ok(prepared?),
        }
    }
}
