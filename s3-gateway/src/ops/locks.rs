//! Object lock: a bucket's rules, a version's retention and legal hold.

use ashlar_objects::object_lock::{self, ObjectLockRules, Period, Retention, RetentionMode};
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::Failure;
use crate::headers::lock;
use crate::ops::{Answer, Operations, bucket, changed, millis, object, timestamp};

fn mode(mode: Option<&ObjectLockRetentionMode>) -> Result<RetentionMode, Failure> {
    mode.and_then(|mode| lock::mode(mode.as_str()))
        .ok_or_else(|| Failure::malformed_xml("the mode is GOVERNANCE or COMPLIANCE"))
}

fn shown(mode: RetentionMode) -> Option<ObjectLockRetentionMode> {
    Some(ObjectLockRetentionMode::from_static(lock::mode_name(mode)))
}

fn rules(configuration: Option<ObjectLockConfiguration>) -> Result<ObjectLockRules, Failure> {
    let configuration = configuration.ok_or_else(|| Failure::malformed_xml("it is empty"))?;
    let enabled = configuration.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str);
    if enabled != Some(ObjectLockEnabled::ENABLED) {
        return Err(Failure::malformed_xml("ObjectLockEnabled is Enabled"));
    }
    let Some(rule) = configuration.rule else { return Ok(ObjectLockRules::default()) };
    let default =
        rule.default_retention.ok_or_else(|| Failure::malformed_xml("a rule has a default retention"))?;
    // Below zero is refused like zero.
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let period = match (default.days, default.years) {
        (Some(days), None) => Period::Days(count(days)),
        (None, Some(years)) => Period::Years(count(years)),
        _ => return Err(Failure::malformed_xml("a default retention has days or years, and not both")),
    };
    Ok(ObjectLockRules {
        default: Some(object_lock::DefaultRetention { mode: mode(default.mode.as_ref())?, period }),
    })
}

pub(super) async fn put_rules(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutObjectLockConfigurationInput>,
) -> Answer<PutObjectLockConfigurationOutput> {
    let rules = rules(request.input.object_lock_configuration)?;
    let done = ops.store.put_object_lock_rules(cx, &bucket(&request.input.bucket)?, rules).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn bucket_rules(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetObjectLockConfigurationInput>,
) -> Answer<GetObjectLockConfigurationOutput> {
    let rules = ops.store.object_lock_rules(cx, &bucket(&request.input.bucket)?).await?;
    let count = |number: u32| i32::try_from(number).ok();
    let rule = rules.default.map(|default| {
        let (days, years) = match default.period {
            Period::Days(days) => (count(days), None),
            Period::Years(years) => (None, count(years)),
        };
        ObjectLockRule {
            default_retention: Some(DefaultRetention { days, mode: shown(default.mode), years }),
        }
    });
    let object_lock_configuration = Some(ObjectLockConfiguration {
        object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
        rule,
    });
    Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration }))
}

pub(super) async fn put_retention(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutObjectRetentionInput>,
) -> Answer<PutObjectRetentionOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let asked = input.retention.ok_or_else(|| Failure::malformed_xml("it is empty"))?;
    let retention = match (&asked.mode, asked.retain_until_date) {
        // An empty document takes the retention away.
        (None, None) => None,
        (given, Some(date)) => Some(Retention { mode: mode(given.as_ref())?, until: millis(date) }),
        (Some(_), None) => return Err(Failure::malformed_xml("a retention has a date")),
    };
    let bypass = lock::bypasses_governance(&cx.headers);
    let done = ops.store.put_object_retention(cx, &name, retention, bypass).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn retention(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetObjectRetentionInput>,
) -> Answer<GetObjectRetentionOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let Retention { mode, until } = ops.store.object_retention(cx, &name).await?;
    let retention = ObjectLockRetention { mode: shown(mode), retain_until_date: Some(timestamp(until)) };
    Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention) }))
}

pub(super) async fn put_legal_hold(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<PutObjectLegalHoldInput>,
) -> Answer<PutObjectLegalHoldOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let status = input.legal_hold.and_then(|hold| hold.status);
    let held = status.as_ref().and_then(|status| lock::hold(status.as_str()));
    let held = held.ok_or_else(|| Failure::malformed_xml("the status is ON or OFF"))?;
    let done = ops.store.put_object_legal_hold(cx, &name, held).await?;
    changed(done.receipt.as_ref())
}

pub(super) async fn legal_hold(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<GetObjectLegalHoldInput>,
) -> Answer<GetObjectLegalHoldOutput> {
    let input = request.input;
    let name = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let held = ops.store.object_legal_hold(cx, &name).await?;
    let status = Some(ObjectLockLegalHoldStatus::from_static(lock::hold_name(held)));
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold: Some(ObjectLockLegalHold { status }) }))
}
