"""croissant.json: the same for programs that train models, as Croissant 1.0 (https://mlcommons.org/croissant)."""

from __future__ import annotations

from typing import Any

from pipeline.handover.described import Described, meaning
from schemas.table import Column, Table
from schemas.types import Kind

# By this name mlcroissant knows it; IANA's came later.
MEDIA_TYPE = "application/x-parquet"

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"

# As the specification prints it, for readers that compare it.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

TYPES: dict[Kind, str] = {
    "text": "sc:Text",
    "enum": "sc:Text",
    "json": "sc:Text",
    "timestamp": "sc:DateTime",
    "timestamp_us": "sc:DateTime",
    "timestamptz": "sc:DateTime",
    "date": "sc:Date",
    "time": "sc:Time",
    "int": "sc:Integer",
    "smallint": "sc:Integer",
    "bigint": "sc:Integer",
    "float": "sc:Float",
    "real": "sc:Float",
    "bool": "sc:Boolean",
    "decimal": "sc:Float",
    "uuid": "sc:Text",
    "bytes": "sc:Text",
    "list": "sc:Text",
    "other": "sc:Text",
}


def croissant(of: Described) -> dict[str, Any]:
    """The JSON-LD. The SHA-256 of the files stand in datapackage.json and SHA256SUMS; here they are one set a table."""
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": of.dataset.slug,
        "alternateName": of.dataset.title,
        "description": of.holds,
        "conformsTo": CONFORMS_TO,
    }
    if of.days:
        found["temporalCoverage"] = f"{of.days[0]}/{of.days[-1]}"
    if of.dataset.licence_url is not None:
        found["license"] = of.dataset.licence_url
    if of.dataset.authors:
        found["creator"] = [
            {"@type": "sc:Person" if "," in name else "sc:Organization", "name": name} for name in of.dataset.authors
        ]
    if of.version is not None:
        found |= {
            "version": of.version.name,
            "datePublished": str(of.version.committed),
            "citeAs": of.version.citation,
        }
    return {
        **found,
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": f"{table.name}-files",
                "name": f"{table.name}-files",
                "description": f"The files of {table.name}.",
                "encodingFormat": MEDIA_TYPE,
                "includes": f"{parts[0].path.partition('/event_')[0]}/*/*.parquet",
            }
            for table, parts in of.tables
        ],
        "recordSet": [record_set(of, table) for table, _ in of.tables],
    }


def record_set(of: Described, table: Table) -> dict[str, Any]:
    pointing = dict(table.references)
    keys = {one.name: one.key for one, _ in of.tables}
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": table.description,
        **({"key": {"@id": f"{table.name}/{table.key}"}} if table.key in table.names else {}),
        "field": [
            {
                **field(of, table, column),
                **(
                    {"references": {"field": {"@id": f"{to}/{keys[to]}"}}}
                    if (to := pointing.get(column.name, "")) in keys
                    else {}
                ),
            }
            for column in table.columns
        ],
    }


def field(of: Described, table: Table, column: Column) -> dict[str, Any]:
    more = f" In {column.unit}." if column.unit and column.unit not in column.description else ""
    return {
        "@type": "cr:Field",
        "@id": f"{table.name}/{column.name}",
        "name": column.name,
        "description": meaning(column, of.pseudonyms) + more,
        "dataType": TYPES[column.kind],
        "source": {"fileSet": {"@id": f"{table.name}-files"}, "extract": {"column": column.name}},
    }
