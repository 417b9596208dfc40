//! Multipart uploads: create, complete, abort. Parts are in objects_write.rs and copy.rs.

use ashlar_objects::error::Error;
use ashlar_objects::requests::{CompleteUpload, CompletedPart, CreateUpload, UploadId, UploadName};
use ashlar_objects::types::{ChecksumAlgorithm as Algorithm, ChecksumType as Kind, PART_NUMBER_MAX};
use s3s::dto::*;
use s3s::{S3Request, S3Response};

use crate::call::Passage;
use crate::failure::{Code, Failure};
use crate::headers::checksums::{self, get_checksum, kind_name, set_checksum};
use crate::headers::{acl, attributes, conditions, lifecycle, lock, number, tags, text};
use crate::ops::objects_write::put_roots;
use crate::ops::{Answer, Operations, etag, object, put_receipt, timestamp, written_version};

/// Names an upload of an object.
pub(super) fn upload(bucket: &str, key: &str, id: &str) -> Result<UploadName, Failure> {
    let name = object(bucket, key, None)?;
    let upload = UploadId::parse(id).ok_or(Error::NoSuchUpload)?;
    Ok(UploadName { bucket: name.bucket, key: name.key, upload })
}

pub(super) async fn create(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<CreateMultipartUploadInput>,
) -> Answer<CreateMultipartUploadOutput> {
    let (input, headers) = (request.input, &cx.headers);
    let name = object(&input.bucket, &input.key, None)?;
    let kind = text(headers, "x-amz-checksum-type")?.map(checksums::kind).transpose()?;
    let checksum = match (checksums::named(headers)?, kind) {
        (Some(algorithm), kind) => Some((algorithm, checked_kind(algorithm, kind)?)),
        (None, Some(_)) => {
            return Err(Failure::new(
                Code::InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            ));
        }
        (None, None) => None,
    };
    let asked = CreateUpload {
        bucket: name.bucket,
        key: name.key,
        attributes: attributes::read(headers)?,
        tags: tags::of_header(headers)?.unwrap_or_default(),
        acl: acl::of_headers(headers)?,
        checksum,
        lock: lock::of_write(headers)?,
    };
    let created = ops.store.create_upload(cx, asked).await?;
    let checksum = created.checksum;
    let expiration = created.expiration;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        abort_date: expiration.as_ref().map(|expiry| timestamp(expiry.at)),
        abort_rule_id: expiration.map(|expiry| expiry.rule),
        bucket: Some(input.bucket),
        checksum_algorithm: checksum
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(checksums::name(algorithm))),
        checksum_type: checksum.map(|(_, kind)| ChecksumType::from_static(kind_name(kind))),
        key: Some(input.key),
        upload_id: Some(created.upload.to_string()),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// Which types S3 allows with which algorithm, and its defaults.
fn checked_kind(algorithm: Algorithm, kind: Option<Kind>) -> Result<Kind, Failure> {
    let default = if algorithm == Algorithm::Crc64Nvme { Kind::FullObject } else { Kind::Composite };
    let kind = kind.unwrap_or(default);
    let whole_only = algorithm == Algorithm::Crc64Nvme;
    let parts_only = matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256);
    if (whole_only && kind == Kind::Composite) || (parts_only && kind == Kind::FullObject) {
        return Err(Failure::new(
            Code::InvalidRequest,
            format!(
                "The {} checksum type cannot be used with the {} checksum algorithm.",
                kind_name(kind),
                checksums::name(algorithm).to_ascii_lowercase()
            ),
        ));
    }
    Ok(kind)
}

pub(super) async fn complete(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Answer<CompleteMultipartUploadOutput> {
    let (input, headers) = (request.input, &cx.headers);
    let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    if listed.is_empty() {
        return Err(Failure::malformed_xml("it lists no part"));
    }
    let most = usize::try_from(PART_NUMBER_MAX).expect("u32 fits usize");
    if listed.len() > most {
        return Err(Failure::malformed_xml("it lists more than 10000 parts"));
    }
    let mut parts = Vec::with_capacity(listed.len());
    for part in listed {
        let number = part.part_number.ok_or_else(|| Failure::malformed_xml("a part has no number"))?;
        let number =
            u32::try_from(number).ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number)).ok_or_else(
                || Failure::argument("PartNumber", "PartNumber must be between 1 and 10000, inclusive"),
            )?;
        let checksum = get_checksum!(part)?;
        let etag = part.e_tag.ok_or_else(|| Failure::malformed_xml("a part has no entity tag"))?;
        parts.push(CompletedPart { number, etag: etag.into_value(), checksum });
    }
    let asked = CompleteUpload {
        name: upload(&input.bucket, &input.key, &input.upload_id)?,
        parts,
        checksum: checksums::asked(headers)?
            .checksum
            .and_then(|(algorithm, value)| value.map(|value| (algorithm, value))),
        checksum_kind: text(headers, "x-amz-checksum-type")?.map(checksums::kind).transpose()?,
        length: number(headers, "x-amz-mp-object-size")?,
        conditions: conditions::of_object(headers)?,
    };
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let key = percent_encoding::utf8_percent_encode(&input.key, crate::query::PATH);
    let location = format!("http://{host}/{}/{key}", input.bucket);
    let written = ops.store.complete_upload(cx, asked).await?;
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        checksum_type: written
            .checksum
            .as_ref()
            .map(|checksum| ChecksumType::from_static(kind_name(checksum.kind))),
        e_tag: Some(etag(&written.etag)),
        expiration: written.expiration.as_ref().map(lifecycle::expiration),
        key: Some(input.key),
        location: Some(location),
        version_id: written_version(written.version),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksum!(output, &written.checksum);
    let mut answer = S3Response::new(output);
    put_roots(&mut answer.headers, &written.object_root, &written.content_root);
    put_receipt(&mut answer.headers, written.receipt.as_ref());
    Ok(answer)
}

pub(super) async fn abort(
    ops: &Operations,
    cx: &Passage,
    request: S3Request<AbortMultipartUploadInput>,
) -> Answer<AbortMultipartUploadOutput> {
    let input = request.input;
    ops.store.abort_upload(cx, &upload(&input.bucket, &input.key, &input.upload_id)?).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_with_algorithms_as_s3_says() {
        assert_eq!(checked_kind(Algorithm::Crc64Nvme, None).expect("default"), Kind::FullObject);
        assert_eq!(checked_kind(Algorithm::Crc32, None).expect("default"), Kind::Composite);
        assert_eq!(
            checked_kind(Algorithm::Crc32c, Some(Kind::FullObject)).expect("allowed"),
            Kind::FullObject
        );
        assert!(checked_kind(Algorithm::Crc64Nvme, Some(Kind::Composite)).is_err());
        assert!(checked_kind(Algorithm::Sha256, Some(Kind::FullObject)).is_err());
    }
}
