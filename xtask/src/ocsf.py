"""Holds each line of a file against the schema of its class, with the profiles that it names."""

import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

schemas, wrong, seen = {}, 0, set()
for number, line in enumerate(open(sys.argv[1]), 1):
    record = json.loads(line)
    version, profiles = record["metadata"]["version"], tuple(record["metadata"].get("profiles", []))
    if version not in schemas:
        schemas[version] = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
    name = schemas[version].lookup_class_name_from_uid(class_uid=record["class_uid"])
    schema = schemas[version].get_class_schema(class_name=name, profiles=list(profiles))
    for error in jsonschema.Draft202012Validator(schema).iter_errors(record):
        wrong += 1
        print(f"line {number} ({name}): /{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}", file=sys.stderr)
    seen.add(name)
if wrong or not seen:
    sys.exit(1)
print(f"OCSF's schema allows the examples of {len(seen)} classes: {', '.join(sorted(seen))}")
