//! What clients of Flight SQL call: statements, prepared statements, metadata, cancelling.
//!
//! Every call is a session of its own, so what would outlive a call (SET, BEGIN) is refused and not forgotten.
//!
//! Invariant: each call finds out who calls, and acts as him alone.

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandGetCatalogs,
    CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightEndpoint,
    FlightInfo, HandshakeRequest, HandshakeResponse, Ticket,
};
use ashlar_query::{Outcome, Prepared, Session, SqlError};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::answers::{self, Answer};
use super::handles::{self, Handle};
use super::{metadata, status};
use crate::credentials::{Peer, Proven};

/// Bytes of parameters for one statement.
const PARAMETERS_BYTES_MAX: usize = 2 << 20;
/// Most rows of parameters for an update: it runs once for each.
const PARAMETER_ROWS_MAX: usize = 10_000;
/// The action by which clients of newer versions cancel.
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

/// The service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service(pub(super) std::sync::Arc<Shared>);

type Handshakes = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// A caller with his session.
struct Call {
    proven: Proven,
    session: Session,
}

impl Service {
    async fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let proven = self.0.identity.of(request.metadata()).await?;
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Status::internal("a call came from nowhere"))?;
        let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
        let cx = proven.request(peer, agent).map_err(|error| status::of(&error))?;
        let session = Session::new(&self.0.engine, cx).map_err(|error| status::of(&error))?;
        Ok(Call { proven, session })
    }

    /// What a client calls to get the answer of a statement: its columns, and the ticket for its rows.
    async fn info(
        &self,
        call: &mut Call,
        handle: Handle,
        ticket: Any,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        let prepared = prepare(&mut call.session, &handle.text).await?;
        let schema = prepared.schema().map(|schema| answers::plain_schema(schema));
        let schema = schema.unwrap_or_else(|| std::sync::Arc::new(arrow::datatypes::Schema::empty()));
        info(&schema, ticket, descriptor)
    }

    async fn rows(&self, mut call: Call, handle: &Handle) -> Result<Response<Answer>, Status> {
        let prepared = prepare(&mut call.session, &handle.text).await?;
        let parameters = handle.one_row().and_then(|row| handles::fitted(row, prepared.parameter_types()));
        let parameters = parameters.map_err(|error| status::of(&error))?;
        let outcome = call.session.execute(&prepared, parameters).await;
        Ok(Response::new(match outcome.map_err(|error| status::of(&error))? {
            Outcome::Affected { .. } => answers::empty(),
            Outcome::Rows(rows) => {
                let user = &call.proven.identity.id;
                let shared = &self.0;
                let stall_max = shared.config.stall_max;
                shared.streaming.answer(&shared.tasks, stall_max, handle.number, user, rows)
            }
        }))
    }

    fn cancel(&self, call: &Call, info: &FlightInfo) -> bool {
        let numbers = info.endpoint.iter().filter_map(|endpoint| {
            let ticket = Any::decode(&*endpoint.ticket.as_ref()?.ticket).ok()?;
            let handle = ticket.unpack::<TicketStatementQuery>().ok()??;
            Some(Handle::decode(&handle.statement_handle).ok()?.number)
        });
        let user = &call.proven.identity.id;
        numbers.filter(|number| self.0.streaming.cancel(*number, user)).count() > 0
    }
}

/// Plans a statement, unless its effect would end with the call.
async fn prepare(session: &mut Session, text: &str) -> Result<Prepared, Status> {
    let prepared = session.prepare(text).await.map_err(|error| status::of(&error))?;
    if matches!(prepared.tag(), "SET" | "RESET" | "BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT") {
        let error = SqlError::unsupported(format!("{} over Flight", prepared.tag()))
            .hint("every call is a session of its own; use the PostgreSQL protocol");
        return Err(status::of(&error));
    }
    Ok(prepared)
}

async fn update(session: &mut Session, prepared: &Prepared, row: Vec<ScalarValue>) -> Result<i64, Status> {
    let row = handles::fitted(row, prepared.parameter_types()).map_err(|error| status::of(&error))?;
    let outcome = session.execute(prepared, row).await.map_err(|error| status::of(&error))?;
    match outcome {
        Outcome::Affected { rows, .. } => Ok(i64::try_from(rows.unwrap_or(0)).unwrap_or(i64::MAX)),
        Outcome::Rows(mut rows) => {
            // Whole or not at all: the statement is done when its rows have ended.
            let mut count = 0_usize;
            while let Some(batch) = rows.next().await {
                count += batch.map_err(|error| status::of(&error.into()))?.num_rows();
            }
            Ok(i64::try_from(count).unwrap_or(i64::MAX))
        }
    }
}

fn info(
    schema: &arrow::datatypes::Schema,
    ticket: Any,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema);
    let info = info.map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(descriptor)))
}

fn without_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(status::of(&SqlError::unsupported("a transaction over Flight"))),
        _ => Ok(()),
    }
}

/// The rows of parameters that a client sends along.
async fn parameters(stream: PeekableFlightDataStream) -> Result<Vec<RecordBatch>, Status> {
    let data = stream.into_peekable().map_err(FlightError::from);
    let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
    let (mut all, mut bytes, mut rows) = (Vec::new(), 0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(Status::from)?;
        bytes += batch.get_array_memory_size();
        rows += batch.num_rows();
        if bytes > PARAMETERS_BYTES_MAX || rows > PARAMETER_ROWS_MAX {
            return Err(Status::resource_exhausted(format!(
                "parameters have at most {PARAMETER_ROWS_MAX} rows and {PARAMETERS_BYTES_MAX} bytes"
            )));
        }
        all.push(batch);
    }
    Ok(all)
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshakes>, Status> {
        let proven = self.0.identity.of(request.metadata()).await?;
        let token = self.0.identity.sealing.seal(&proven).map_err(|error| status::of(&error))?;
        let payload = Bytes::from(token.clone());
        let answer = HandshakeResponse { protocol_version: 0, payload };
        let stream: Handshakes = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(stream);
        put_token(response.metadata_mut(), &token)?;
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let mut call = self.call(&request).await?;
        without_transaction(query.transaction_id.as_ref())?;
        let handle = Handle::new(query.query).map_err(|error| status::of(&error))?;
        let ticket = TicketStatementQuery { statement_handle: handle.encode()? }.as_any();
        self.info(&mut call, handle, ticket, request.into_inner()).await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let mut call = self.call(&request).await?;
        let handle = Handle::decode(&query.prepared_statement_handle)?;
        let handle = handle.renewed().map_err(|error| status::of(&error))?;
        let ticket = TicketStatementQuery { statement_handle: handle.encode()? }.as_any();
        self.info(&mut call, handle, ticket, request.into_inner()).await
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        let call = self.call(&request).await?;
        self.rows(call, &Handle::decode(&ticket.statement_handle)?).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        let call = self.call(&request).await?;
        self.rows(call, &Handle::decode(&query.prepared_statement_handle)?).await
    }

    async fn do_put_statement_update(
        &self,
        query: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let mut call = self.call(&request).await?;
        without_transaction(query.transaction_id.as_ref())?;
        let prepared = prepare(&mut call.session, &query.query).await?;
        update(&mut call.session, &prepared, Vec::new()).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let _call = self.call(&request).await?;
        let handle = Handle::decode(&query.prepared_statement_handle)?;
        let rows = parameters(request.into_inner()).await?;
        let handle = handle.with(&rows).map_err(|error| status::of(&error))?.encode()?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let mut call = self.call(&request).await?;
        let handle = Handle::decode(&query.prepared_statement_handle)?;
        let prepared = prepare(&mut call.session, &handle.text).await?;
        if prepared.parameter_types().is_empty() {
            return update(&mut call.session, &prepared, Vec::new()).await;
        }
        let mut rows = Vec::new();
        for batch in parameters(request.into_inner()).await? {
            rows.extend(handles::of_rows(&batch).map_err(|error| status::of(&error))?);
        }
        // All rows or none.
        let is_many = rows.len() > 1;
        if is_many {
            call.session.query("BEGIN", Vec::new()).await.map_err(|error| status::of(&error))?;
        }
        let mut sum = 0_i64;
        for row in rows {
            sum = sum.saturating_add(update(&mut call.session, &prepared, row).await?);
        }
        if is_many {
            call.session.query("COMMIT", Vec::new()).await.map_err(|error| status::of(&error))?;
        }
        Ok(sum)
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let mut call = self.call(&request).await?;
        without_transaction(query.transaction_id.as_ref())?;
        let prepared = prepare(&mut call.session, &query.query).await?;
        let handle = Handle::new(query.query).map_err(|error| status::of(&error))?;
        let schema = prepared.schema().map(|schema| answers::plain_schema(schema));
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.encode()?,
            dataset_schema: schema.map(|schema| handles::ipc(&schema)).transpose()?.unwrap_or_default(),
            parameter_schema: handles::ipc(&handles::parameter_schema(prepared.parameter_types()))?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        // Nothing is kept for it.
        self.call(&request).await.map(|_| ())
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        use arrow_flight::sql::ActionCancelQueryResult as Result_;
        let call = self.call(&request).await?;
        let info =
            FlightInfo::decode(query.info).map_err(|_| Status::invalid_argument("not a FlightInfo"))?;
        // Of the results of this action 1 is 'cancelled' and 3 'cannot be'.
        Ok(Result_ { result: if self.cancel(&call, &info) { 1 } else { 3 } })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let call = self.call(&request).await?;
        let action = request.into_inner();
        if action.r#type != CANCEL_FLIGHT_INFO {
            return Err(Status::unimplemented(format!("there is no action {:?}", action.r#type)));
        }
        let bad = |_| Status::invalid_argument("not a CancelFlightInfoRequest");
        let asked = CancelFlightInfoRequest::decode(action.body).map_err(bad)?;
        let is_cancelled = asked.info.is_some_and(|info| self.cancel(&call, &info));
        let status = if is_cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
        let result = CancelFlightInfoResult { status: status.into() };
        let result = arrow_flight::Result { body: result.encode_to_vec().into() };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(result)]))))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.call(&request).await?;
        info(&query.into_builder().schema(), query.as_any(), request.into_inner())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.call(&request).await?;
        info(&query.clone().into_builder().schema(), query.as_any(), request.into_inner())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.call(&request).await?;
        info(&query.clone().into_builder().schema(), query.as_any(), request.into_inner())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.call(&request).await?;
        info(&query.into_builder().schema(), query.as_any(), request.into_inner())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.call(&request).await?;
        let schema = query.clone().into_builder(&self.0.sql_info).schema();
        info(&schema, query.as_any(), request.into_inner())
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        self.call(&request).await?;
        metadata::catalogs(query).map(|batch| Response::new(answers::whole(batch)))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        let mut call = self.call(&request).await?;
        let batch = metadata::schemas(&mut call.session, query).await?;
        Ok(Response::new(answers::whole(batch)))
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        let mut call = self.call(&request).await?;
        let batch = metadata::tables(&mut call.session, query).await?;
        Ok(Response::new(answers::whole(batch)))
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        self.call(&request).await?;
        metadata::table_types(query).map(|batch| Response::new(answers::whole(batch)))
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Result<Response<Answer>, Status> {
        self.call(&request).await?;
        let batch = query.into_builder(&self.0.sql_info).build();
        let batch = batch.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(answers::whole(batch)))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// Clients take the token from where they send it later.
fn put_token(headers: &mut MetadataMap, token: &str) -> Result<(), Status> {
    let value = MetadataValue::try_from(format!("Bearer {token}"));
    let value = value.map_err(|_| Status::internal("a token is no header"))?;
    headers.insert("authorization", value);
    Ok(())
}
