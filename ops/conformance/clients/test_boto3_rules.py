"""boto3 against object lock and lifecycle rules: what keeps a version, what gives it up, and who is told.

Its quirks: dates go out as ISO 8601 with microseconds where they have some, and come back as aware datetimes.
"""

import datetime
import re
import secrets

import boto3
import pytest
from botocore.exceptions import ClientError

FAR = datetime.datetime(2140, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture(scope="module")
def boto(target):
    return boto3.client("s3", endpoint_url=target.endpoint, region_name=target.region,
                        aws_access_key_id=target.access, aws_secret_access_key=target.secret)


@pytest.fixture
def locked(boto):
    """A bucket with object lock; what is left in it under governance goes with the right to bypass it."""
    name = f"conformance-lock-{secrets.token_hex(6)}"
    boto.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield name
    listed = boto.list_object_versions(Bucket=name)
    for version in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
        boto.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"],
                           BypassGovernanceRetention=True)
    boto.delete_bucket(Bucket=name)


def failure(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_governance_keeps_a_version_and_the_right_ends_it(boto, locked):
    put = boto.put_object(Bucket=locked, Key="k", Body=b"1", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=FAR)
    version = {"Bucket": locked, "Key": "k", "VersionId": put["VersionId"]}
    head = boto.head_object(**version)
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", FAR)
    assert boto.get_object_retention(**version)["Retention"] == {"Mode": "GOVERNANCE", "RetainUntilDate": FAR}
    assert failure(boto.delete_object, **version) == (403, "AccessDenied")
    answer = boto.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": put["VersionId"]}]})
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]
    marker = boto.delete_object(Bucket=locked, Key="k")
    assert marker["DeleteMarker"] is True
    boto.delete_object(**version, BypassGovernanceRetention=True)
    assert failure(boto.head_object, **version)[0] == 404


def test_a_hold_stands_until_it_is_taken_off(boto, locked):
    upload = boto.create_multipart_upload(Bucket=locked, Key="m", ObjectLockLegalHoldStatus="ON")["UploadId"]
    part = boto.upload_part(Bucket=locked, Key="m", UploadId=upload, PartNumber=1, Body=b"part")
    done = boto.complete_multipart_upload(Bucket=locked, Key="m", UploadId=upload,
                                          MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    version = {"Bucket": locked, "Key": "m", "VersionId": done["VersionId"]}
    assert boto.get_object_legal_hold(**version)["LegalHold"] == {"Status": "ON"}
    assert failure(boto.delete_object, **version, BypassGovernanceRetention=True) == (403, "AccessDenied")
    boto.put_object_legal_hold(**version, LegalHold={"Status": "OFF"})
    boto.delete_object(**version)


def test_compliance_is_only_extended(boto, locked):
    now = datetime.datetime.now(datetime.timezone.utc)
    soon, later = now + datetime.timedelta(seconds=8), now + datetime.timedelta(seconds=10)
    put = boto.put_object(Bucket=locked, Key="c", Body=b"1", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon)
    version = {"Bucket": locked, "Key": "c", "VersionId": put["VersionId"]}
    boto.put_object_retention(**version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": later})
    for retention in ({"Mode": "COMPLIANCE", "RetainUntilDate": soon}, {"Mode": "GOVERNANCE", "RetainUntilDate": FAR}):
        refused = failure(boto.put_object_retention, **version, Retention=retention, BypassGovernanceRetention=True)
        assert refused == (403, "AccessDenied")
    assert failure(boto.delete_object, **version, BypassGovernanceRetention=True) == (403, "AccessDenied")
    # When it has passed, the version is as any other: the first deletion after that moment succeeds.
    while datetime.datetime.now(datetime.timezone.utc) <= later:
        boto.head_object(**version)
    boto.delete_object(**version)


def test_a_buckets_default_counts_for_new_versions(boto, locked):
    rules = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Years": 1}}}
    boto.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rules)
    assert boto.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == rules
    boto.put_object(Bucket=locked, Key="d", Body=b"1")
    boto.copy_object(Bucket=locked, Key="copy", CopySource={"Bucket": locked, "Key": "d"})
    for key in ("d", "copy"):
        head = boto.head_object(Bucket=locked, Key=key)
        left = head["ObjectLockRetainUntilDate"] - head["LastModified"]
        assert head["ObjectLockMode"] == "GOVERNANCE" and left.days in (365, 366)
    suspended = {"Bucket": locked, "VersioningConfiguration": {"Status": "Suspended"}}
    assert failure(boto.put_bucket_versioning, **suspended) == (409, "InvalidBucketState")


RULES = [
    {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}},
    {"ID": "versions", "Status": "Enabled", "Filter": {"And": {"Prefix": "data/", "Tags": [{"Key": "a", "Value": "1"}]}},
     "NoncurrentVersionExpiration": {"NoncurrentDays": 7, "NewerNoncurrentVersions": 3}},
    {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}},
    {"ID": "old form", "Status": "Disabled", "Prefix": "tmp/", "Expiration": {"ExpiredObjectDeleteMarker": True}},
]


def test_rules_come_back_and_answers_tell_of_them(boto, bucket):
    boto.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": RULES})
    assert boto.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == RULES
    put = boto.put_object(Bucket=bucket, Key="logs/a", Body=b"1")
    assert re.fullmatch(r'expiry-date="[^"]+ 00:00:00 GMT", rule-id="logs"', put["Expiration"])
    assert boto.head_object(Bucket=bucket, Key="logs/a")["Expiration"] == put["Expiration"]
    assert "Expiration" not in boto.put_object(Bucket=bucket, Key="other", Body=b"1")
    upload = boto.create_multipart_upload(Bucket=bucket, Key="m")
    assert upload["AbortRuleId"] == "uploads" and upload["AbortDate"] > datetime.datetime.now(datetime.timezone.utc)
    boto.delete_bucket_lifecycle(Bucket=bucket)
    absent = failure(boto.get_bucket_lifecycle_configuration, Bucket=bucket)
    assert absent == (404, "NoSuchLifecycleConfiguration")
    assert "Expiration" not in boto.head_object(Bucket=bucket, Key="logs/a")


@pytest.mark.parametrize("change, code", [
    ({"Expiration": {"Days": 0}}, "InvalidArgument"),
    ({"Expiration": {"Date": datetime.datetime(2030, 1, 1, 1, tzinfo=datetime.timezone.utc)}}, "InvalidArgument"),
    ({"ID": "a" * 256}, "InvalidArgument"),
    ({"Status": "enabled"}, "MalformedXML"),
    ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, "InvalidStorageClass"),
])
def test_rules_that_cannot_be_followed_are_refused(boto, bucket, change, code):
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}} | change
    refused = failure(boto.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert refused == (400, code)
