# SPDX-License-Identifier: Apache-2.0
"""get_all_records_where of the simulated host, over XML-RPC, finds what XAPI finds; and every query of the library is right."""

import ast
import os

import pytest
import XenAPI

from tests.harness.pool import Pool

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOM0 = "dom0"
RECORDS = ("both", "kernel", "ramdisk", "neither", DOM0)
NONE = ()
LEXER_ERROR = 'Failure("lexing: empty token")'
QUOTED = "it's a \\ path"


@pytest.fixture(scope="module")
def pool():
    with Pool(plugins=False) as pool:
        host = pool.hosts[0]
        pool.database.update("VM", host.control_domain_ref, name_label=DOM0)
        pool.add_vm("both", PV_kernel="k", PV_ramdisk="r", other_config={"a": QUOTED, "b": ""}, tags=["x", "it's"])
        pool.add_vm("kernel", power_state="Halted", PV_kernel="k", is_a_template=True, memory_static_max=3 << 29, VCPUs_max=3)
        pool.add_vm("ramdisk", power_state="Halted", PV_ramdisk="r", is_a_snapshot=True, HVM_boot_policy="BIOS order")
        pool.add_vm("neither", power_state="Suspended", name_description="line\nfeed")
        yield pool


@pytest.fixture(scope="module")
def session(pool):
    return pool.login()


def find(session, query, class_name="VM"):
    """The labels of the records that a query finds."""
    records = getattr(session.xenapi, class_name).get_all_records_where(query)
    return sorted(record["name_label"] for record in records.values())


@pytest.mark.parametrize("query, found", [
    ("true", RECORDS),
    ("false", NONE),
    (" \t\n true \n", RECORDS),
    ("((true))", RECORDS),
    # columns of the database, not fields of the record
    ('field "name__label"="both"', ("both",)),
    ('field "PV__kernel"="k"', ("both", "kernel")),
    ('field "HVM__boot_policy"="BIOS order"', ("ramdisk",)),
    ('field "power_state"="Halted"', ("kernel", "ramdisk")),
    # texts are compared, with texts
    ('field "is_a_template"="true"', ("kernel",)),
    ('field "is_a_template"="True"', NONE),
    ('field "is_a_template"="1"', NONE),
    ('field "VCPUs__max"="3"', ("kernel",)),
    ('field "VCPUs__max"="03"', NONE),
    ('field "memory__static_max"="1610612736"', ("kernel",)),
    ('field "suspend_VDI"="OpaqueRef:NULL"', RECORDS),
    ("field \"other_config\"=\"(('a' 'it\\'s a \\\\ path') ('b' ''))\"", ("both",)),
    ("field \"tags\"=\"('x' 'it\\'s')\"", ("both",)),
    ('field "tags"="()"', ("kernel", "neither", "ramdisk", DOM0)),
    ('field "PV__kernel"=field "PV__ramdisk"', ("neither", DOM0)),
    ('"both"=field "name__label"', ("both",)),
    ('"a"="a"', RECORDS),
    ('"a"="A"', NONE),
    # no space is needed, none is wanted in a text, and there are no escapes
    ('field"name__label"="both"or"a"="b"', ("both",)),
    ('truaand', LEXER_ERROR),
    ('trueandtrue', RECORDS),
    ('notfalse', RECORDS),
    ('field " name__label"="both"', "missing field"),
    ('field "name__description"="line\nfeed"', ("neither",)),
    ("\"'\"=\"'\"", RECORDS),
    ('"\\"="\\\\"', NONE),
    ('"and or not"="field"', NONE),
    # `and` and `or` bind alike, from the left
    ('true or true and false', NONE),
    ('true or (true and false)', RECORDS),
    ('false and true or true', RECORDS),
    # `not` takes all that follows, up to the parenthesis
    ('not false or true', NONE),
    ('(not false) or true', RECORDS),
    ('not true and false', RECORDS),
    ('true and not true and false', RECORDS),
    ('false or not false or true', NONE),
    ('not not false', NONE),
    ('(not true and false) and false', NONE),
    ('not (field "is_control_domain" = "true") and field "power_state"="Running"', ("both", "kernel", "neither", "ramdisk")),
    ('not (field "PV__kernel"="") or not (field "PV__ramdisk"="")', ("kernel",)),
    ('(not (field "PV__kernel"="")) or (not (field "PV__ramdisk"=""))', ("both", "kernel", "ramdisk")),
    # a column that does not exist is found out when a row is asked for it
    ('field "name_label"="both"', "missing field"),
    ('field "PV_kernel"=""', "missing field"),
    ('field "Power_state"="Halted"', "missing field"),
    ('field ""=""', "missing field"),
    ('false and field "no_such"="x"', NONE),
    ('true or field "no_such"="x"', RECORDS),
    ('true and field "no_such"="x"', "missing field"),
])
def test_what_a_query_finds(session, query, found):
    if isinstance(found, tuple):
        assert find(session, query) == sorted(found)
        return
    with pytest.raises(XenAPI.Failure) as caught:
        find(session, query)
    if found == LEXER_ERROR:
        assert caught.value.details == ["INVALID_VALUE", query, found]
    else:
        assert caught.value.details == ["INTERNAL_ERROR", found, query.split('field "')[-1].partition('"')[0], ""]


@pytest.mark.parametrize("query", [
    "", " ", "(", ")", "()", "(true", "true)", "true true", 'true "x"', "and", "true and", "or true", "not", "not ()",
    'field "uuid"', 'field "uuid" =', '= "x"', 'field = "x"', '"x"', 'field uuid = "x"', 'field "uuid" "x"', 'field "uuid" == "x"',
    'field "uuid" = "x" extra', 'field "uuid" = "x";', 'field "uuid" != "x"', 'field "uuid" = x', 'field "uuid" = 1',
    'field "uuid" = true', '"', '"a" = "b', "field 'uuid' = 'x'", '"a\\"" = "b"', 'TRUE',
    'field "uuid" = "x" AND true', "\u00a0true",
    "true && true", 'true, true', 'field field "uuid" = "x"',
])
def test_a_text_that_is_no_query(session, query):
    with pytest.raises(XenAPI.Failure) as caught:
        find(session, query)
    assert caught.value.details[0] == "INVALID_VALUE" and len(caught.value.details) == 3


def test_the_first_error_in_the_text_is_told(session):
    for query, is_lexer in (('true true $', False), ('true $ true', True)):
        with pytest.raises(XenAPI.Failure) as caught:
            find(session, query)
        assert (caught.value.details[2] == LEXER_ERROR) is is_lexer


def test_an_empty_table_hides_a_column_that_does_not_exist(session):
    assert session.xenapi.VIF.get_all_records_where('field "no_such"="x"') == {}


@pytest.mark.parametrize("class_name, column, field", [
    ("host", "API_version__major", "API_version_major"), ("host", "memory__overhead", "memory_overhead"),
    ("host", "name__label", "name_label"), ("host", "external_auth_type", "external_auth_type"),
    ("host_metrics", "memory__total", "memory_total"), ("SR", "name__description", "name_description"),
    ("SR", "physical_size", "physical_size"), ("PIF", "IP", "IP"), ("PIF", "ip_configuration_mode", "ip_configuration_mode"),
    ("pool", "name__label", "name_label"), ("network", "name__label", "name_label"),
])
def test_columns_of_other_classes(session, class_name, column, field):
    table = getattr(session.xenapi, class_name)
    assert table.get_all_records_where('field "%s"=field "%s"' % (column, column)) == table.get_all_records() != {}
    if column != field:
        with pytest.raises(XenAPI.Failure) as caught:
            table.get_all_records_where('field "%s"=""' % field)
        assert caught.value.details == ["INTERNAL_ERROR", "missing field", field, ""]


# The queries of the library: all pieces that the source has, and each query made of them.

_CLAIMS = '(%s) and (field "is_control_domain"="false") and (field "is_a_template"="false")'
_RESIDENT = 'field "resident_on"="%s"'
_OF_VM, _AND_DEVICE = 'field "VM"="%s"%s', ' and field "device"="%s"'
# {file: the pieces of queries in it, calls of get_all_records_where}
LIBRARY = {
    os.path.join("dom0_lib", "guests", "console_claims.py"): ([_CLAIMS, _RESIDENT, _RESIDENT], 1),
    os.path.join("dom0_lib", "host", "host_power.py"): ([_RESIDENT], 1),
    os.path.join("dom0_lib", "devices", "vbd.py"): ([_AND_DEVICE, _OF_VM], 1),
}


def list_queries(path):
    with open(path, "rb") as source:
        nodes = list(ast.walk(ast.parse(source.read())))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    calls = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "get_all_records_where"]
    names = [text for text in texts if "_where" in text and " " not in text]
    return sorted(text for text in texts if 'field "' in text), len(calls) + len(names)


def test_no_query_of_the_library_is_missing_here():
    found = {}
    for top in ("dom0_lib", "dom0_plugins", "plugins", "packaging"):
        for parent, _, names in os.walk(os.path.join(CHECKOUT, top)):
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(parent, name)
                    queries = list_queries(path)
                    if queries != ([], 0):
                        found[os.path.relpath(path, CHECKOUT)] = queries
    assert found == LIBRARY


def test_what_the_queries_of_the_library_find(pool, session):
    host = pool.hosts[0]
    assert find(session, _RESIDENT % host.ref) == ["both", DOM0]
    assert find(session, _CLAIMS % _RESIDENT % host.ref) == ["both"]
    assert find(session, _CLAIMS % _RESIDENT % "OpaqueRef:NULL") == ["neither", "ramdisk"]
    wanted = pool.database.create("VBD", VM=host.control_domain_ref, device="xvdb")
    other = pool.database.create("VBD", VM=host.control_domain_ref, device="xvdc")
    pool.database.create("VBD", device="xvdb")
    of_dom0 = session.xenapi.VBD.get_all_records_where(_OF_VM % (host.control_domain_ref, ""))
    assert set(of_dom0) == {wanted, other}
    assert list(session.xenapi.VBD.get_all_records_where(_OF_VM % (host.control_domain_ref, _AND_DEVICE % "xvdb"))) == [wanted]
