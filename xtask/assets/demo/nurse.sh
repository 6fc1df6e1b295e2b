#!/bin/sh
# The demo's curl: a new process and a new TLS connection for each call, as scripts do it.
# Arguments: the port of the hospital's TLS door, the certificate.
set -u
number=1000
while :; do
    number=$((number % 200 + 1001))
    curl --silent --show-error --max-time 5 --output /dev/null --cacert "$2" \
        --resolve "ehr.hospital.example:$1:127.0.0.1" \
        --header "Host: ehr.hospital.example" --header "Authorization: Bearer nurse" \
        --header "traceparent: 00-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')-01" \
        "https://ehr.hospital.example:$1/fhir/Encounter/$number"
    sleep 1
done
