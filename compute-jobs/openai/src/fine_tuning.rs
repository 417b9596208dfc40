//! `/v1/fine_tuning/jobs…`: says that there is none.

use axum::extract::{Request, State};
use axum::response::Response;

use crate::admission::answered;
use crate::credentials::Route;
use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// Every route of fine-tuning.
pub(crate) async fn refuse(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::FineTuning, request, |_, _, _| async { Err(Refusal::not_built("Fine-tuning")) })
        .await
}
