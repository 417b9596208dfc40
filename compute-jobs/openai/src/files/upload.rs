//! `POST /v1/files`: a form whose file becomes an object while it comes.
//!
//! Invariant: nothing of a file that is refused becomes visible as a file; a file of lines is read line by line on its way, and
//! refused with the numbers of the lines that are no JSON. Where a form names its purpose after its file, the object is
//! written under `pending` and renamed, which copies no bytes.

use std::sync::Arc;

use ashlar_objects::Error;
use ashlar_objects::access::RequestContext;
use ashlar_objects::object_lock::Lock;
use ashlar_objects::requests::{
    BodyError, CopyObject, CreateBucket, ObjectName, Payload, PutObject, Written,
};
use ashlar_objects::types::{Attributes, Conditions, ObjectKey, Tags};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use multer::{Field, Multipart};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS};

use super::{File, Lines, bucket_of, delete, key_of, new_id, own_bucket};
use crate::admission::{Admitted, answered, declared_length};
use crate::credentials::Route;
use crate::gateway::Gateway;
use crate::limits::Limits;
use crate::refusal::Refusal;

/// What stands for the purpose of a file whose form has not told it yet.
pub(super) const PENDING: &str = "pending";
/// What of a file's name is escaped in its key.
pub(super) const NAME_ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'\\');
/// What files may be for here.
const PURPOSES: [&str; 2] = ["batch", "fine-tune"];
/// Longest name of a file and longest value of another field, in bytes.
const FIELD_BYTES_MAX: usize = 255;
/// What a form takes beside its file, in bytes.
const FORM_BYTES_MAX: u64 = 64 << 10;
/// Fields of a form.
const FIELDS_MAX: usize = 8;

/// `POST /v1/files`
pub(crate) async fn upload(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::Files, request, |gateway, admitted, body| async move {
        let file = receive(&gateway, &admitted, body).await?;
        Ok(Json(file.describe()).into_response())
    })
    .await
}

/// A file that was written, under which purpose its key has.
struct Received {
    name: String,
    key: ObjectKey,
    written: Written,
    /// What is wrong with its lines, if its purpose asks for lines.
    lines: Result<u64, Refusal>,
}

async fn receive(gateway: &Gateway, admitted: &Admitted, body: Body) -> Result<File, Refusal> {
    let limits = gateway.limits();
    let maximum = limits.file_bytes_max;
    if declared_length(&admitted.headers).is_some_and(|length| length > maximum + FORM_BYTES_MAX) {
        return Err(Refusal::too_large(maximum));
    }
    let form = admitted.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(form).map_err(|_| {
        Refusal::malformed("A file is sent as multipart/form-data with the fields purpose and file.")
    })?;
    let mut form = Multipart::new(body.into_data_stream(), boundary);
    let id = new_id("file-", gateway.now_millis());
    let (mut purpose, mut received) = (None, None);
    let result = async {
        for _ in 0..FIELDS_MAX {
            let Some(field) = next(&mut form, limits).await? else {
                return finish(gateway, admitted, &id, purpose, received.as_ref()).await;
            };
            match field.name() {
                Some("purpose") if purpose.is_none() => {
                    let text = text(field, limits).await?;
                    purpose = Some(known_purpose(text)?);
                }
                Some("file") if received.is_none() => {
                    received = Some(write(gateway, admitted, &id, purpose, field).await?);
                }
                name => return Err(Refusal::unknown_parameter(name.unwrap_or_default())),
            }
        }
        Err(Refusal::malformed("The form has too many fields."))
    }
    .await;
    if result.is_err()
        && let Some(received) = &received
    {
        // Under `pending` it is no file; under its purpose it is not to stay one.
        delete(gateway, &admitted.cx, &admitted.caller.identity.id, received.key.as_str()).await?;
    }
    result
}

async fn next(form: &mut Multipart<'static>, limits: &Limits) -> Result<Option<Field<'static>>, Refusal> {
    let field = tokio::time::timeout(limits.body_wait, form.next_field()).await;
    field
        .map_err(|_| Refusal::too_slow())?
        .map_err(|error| Refusal::malformed(format!("The form does not read: {error}.")))
}

async fn text(mut field: Field<'static>, limits: &Limits) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    loop {
        let piece = tokio::time::timeout(limits.body_wait, field.chunk()).await;
        match piece.map_err(|_| Refusal::too_slow())? {
            Ok(Some(piece)) if bytes.len() + piece.len() <= FIELD_BYTES_MAX => {
                bytes.extend_from_slice(&piece)
            }
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => return Err(Refusal::malformed("A field of the form does not read.")),
        }
    }
    String::from_utf8(bytes).map_err(|_| Refusal::malformed("A field of the form is no text."))
}

fn known_purpose(text: String) -> Result<&'static str, Refusal> {
    let known = PURPOSES.into_iter().find(|purpose| *purpose == text);
    known.ok_or_else(|| {
        Refusal::invalid("purpose", "'purpose' must be batch or fine-tune; other files are objects of S3.")
    })
}

/// Writes the file as an object while it comes.
async fn write(
    gateway: &Gateway,
    admitted: &Admitted,
    id: &str,
    purpose: Option<&'static str>,
    field: Field<'static>,
) -> Result<Received, Refusal> {
    let name = file_name(field.file_name())?;
    let key = key_of(id, purpose.unwrap_or(PENDING), &name)?;
    let limits = gateway.limits();
    let lines = Arc::new(Mutex::new(Lines::new(limits.line_bytes_max, u64::MAX)));
    let payload = payload(checked(field, limits, Arc::clone(&lines)));
    let put =
        put(gateway, &admitted.cx, &admitted.caller.identity.id, &key, payload, Attributes::default()).await;
    let lines = std::mem::replace(&mut *lines.lock(), Lines::new(0, 0)).finish(&mut |_| Ok(()));
    let lines = lines.map_err(|faults| Refusal::lines("file", faults));
    match (put, lines) {
        (Ok(written), lines) => Ok(Received { name, key, written, lines }),
        // Of a file whose lines do not read no more was taken than shows it.
        (Err(Error::Body(BodyError::Framing { .. })), Err(refusal)) => Err(refusal),
        (Err(Error::Body(BodyError::TooLong)), _) => Err(Refusal::too_large(limits.file_bytes_max)),
        (Err(error), _) => Err(error.into()),
    }
}

/// The name of a file, without the folders that some clients send before it.
fn file_name(given: Option<&str>) -> Result<String, Refusal> {
    let name = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let is_plain = !name.is_empty() && name.len() <= FIELD_BYTES_MAX && !name.chars().any(char::is_control);
    if is_plain {
        Ok(name.to_owned())
    } else {
        Err(Refusal::invalid("file", "The file needs a name of 1 to 255 bytes."))
    }
}

/// The bytes of a field, bounded in size and in the waiting between two pieces, and looked at line by line.
fn checked(
    field: Field<'static>,
    limits: &Limits,
    lines: Arc<Mutex<Lines>>,
) -> impl futures::Stream<Item = Result<Bytes, BodyError>> + Send + use<> {
    let (maximum, wait) = (limits.file_bytes_max, limits.body_wait);
    stream::unfold((field, 0_u64, lines), move |(mut field, length, lines)| async move {
        let piece = match tokio::time::timeout(wait, field.chunk()).await {
            Err(_) => Err(BodyError::TooSlow),
            Ok(Err(_)) => Err(BodyError::Incomplete { received: length }),
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(piece))) => Ok(piece),
        };
        let length =
            length + piece.as_ref().map_or(0, |piece| u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let piece = piece.and_then(|piece| {
            if length > maximum {
                return Err(BodyError::TooLong);
            }
            let mut lines = lines.lock();
            lines.take(&piece, &mut |_| Ok(()));
            if lines.is_given_up() {
                return Err(BodyError::Framing { detail: "its lines are no JSON" });
            }
            drop(lines);
            Ok(piece)
        });
        Some((piece, (field, length, lines)))
    })
}

pub(crate) fn payload(
    stream: impl futures::Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
) -> Payload {
    Payload {
        stream: stream.boxed(),
        length: None,
        content_md5: None,
        content_sha256: None,
        checksum: None,
        trailing_checksum: None,
    }
}

/// Puts an object into the caller's bucket, which is made where there is none.
pub(crate) async fn put(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    key: &ObjectKey,
    payload: Payload,
    attributes: Attributes,
) -> Result<Written, Error> {
    let store = gateway.store();
    let bucket = match own_bucket(gateway, cx, user_id).await? {
        Some(bucket) => bucket,
        None => {
            let bucket = bucket_of(user_id);
            let request = CreateBucket {
                bucket: bucket.clone(),
                acl: None,
                ownership: None,
                location: None,
                object_lock: false,
            };
            match store.create_bucket(cx, request).await {
                Ok(_) | Err(Error::BucketAlreadyOwnedByYou) => bucket,
                Err(error) => return Err(error),
            }
        }
    };
    let request = PutObject {
        bucket,
        key: key.clone(),
        attributes,
        tags: Tags::default(),
        acl: None,
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload,
    };
    store.put_object(cx, request).await
}

/// The form has ended: what was written becomes a file, or is refused.
async fn finish(
    gateway: &Gateway,
    admitted: &Admitted,
    id: &str,
    purpose: Option<&'static str>,
    received: Option<&Received>,
) -> Result<File, Refusal> {
    let purpose = purpose.ok_or_else(|| Refusal::missing("purpose"))?;
    let Received { name, key, written, lines } = received.ok_or_else(|| Refusal::missing("file"))?;
    lines.clone()?;
    let to = key_of(id, purpose, name)?;
    if to != *key {
        rename(gateway, admitted, key, &to).await?;
    }
    Ok(File {
        id: id.to_owned(),
        purpose: purpose.to_owned(),
        name: name.clone(),
        key: to.as_str().to_owned(),
        length: written.length,
        created: written.modified.0.div_euclid(1_000),
    })
}

async fn rename(
    gateway: &Gateway,
    admitted: &Admitted,
    from: &ObjectKey,
    to: &ObjectKey,
) -> Result<(), Refusal> {
    let user_id = &admitted.caller.identity.id;
    let bucket = bucket_of(user_id);
    let request = CopyObject {
        source: ObjectName::current(&bucket, from),
        source_conditions: Conditions::default(),
        bucket,
        key: to.clone(),
        attributes: None,
        storage_class: None,
        tags: None,
        acl: None,
        checksum: None,
        lock: Lock::default(),
        conditions: Conditions::default(),
    };
    gateway.store().copy_object(&admitted.cx, request).await?;
    delete(gateway, &admitted.cx, user_id, from.as_str()).await
}
