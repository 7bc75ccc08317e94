"""`flint limit`: the verbs for limits, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from flint._cli import costs, explain, history, top
from flint._cli.failure import DENIED, OK, CommandError, UsageError
from flint._cli.opening import reading, writing
from flint._cli.shapes import check_all_shape, check_shape, status_shape
from flint._cli.text import ago, ahead, rate, shown
from flint._surface.types import Algorithm

if TYPE_CHECKING:
    from flint._cli.context import Context
    from flint._cli.grammar import Parser, Verbs
    from flint._cli.opening import Opened
    from flint._surface.types import CheckAllDict, StatusDict


def add_to(verbs: Verbs) -> None:
    group = verbs.group(
        "limit",
        "limits: add, look at, try, reset, remove",
        "flint limit add 'user:*' 100/minute",
        "flint limit explain user:42",
    )
    add_configuring(group)
    add_looking(group)
    add_checking(group)
    explain.add_to(group)
    history.add_to(group)
    top.add_to(group)


def key_argument(parser: Parser) -> None:
    parser.add_argument("key", metavar="KEY", help="the key; one that ends with * is a template")


def name_options(parser: Parser) -> None:
    parser.add_argument("--name", help="of several limits of the key, the one with this name")
    parser.add_argument(
        "--literal",
        action="store_const",
        const=False,
        dest="template",
        help="take a * at the end of KEY as a character like any other",
    )


def add_configuring(group: Verbs) -> None:
    parser = group.add(
        "add",
        add,
        "add a limit, or give one that exists other values",
        "flint limit add 'user:*' '100/minute burst 200'",
        "flint limit add login --rate 5 --per 1m",
    )
    key_argument(parser)
    parser.add_argument(
        "limit", metavar="LIMIT", nargs="?", help='in words, or several: "5/minute; 100/hour"'
    )
    parser.add_argument("--rate", type=int, metavar="N", help="units for each PER, without LIMIT")
    parser.add_argument("--per", metavar="PER", help="a length: 500ms, 10s, 1m, 1d")
    parser.add_argument("--algorithm", choices=get_args(Algorithm), default="token_bucket")
    parser.add_argument("--burst", type=int, metavar="N", help="units at once (default: the rate)")
    parser.add_argument("--stack", action="store_true", help="shorter templates stay in force too")
    parser.add_argument("--if-absent", action="store_true", help="leave one that exists as it is")
    name_options(parser)
    parser = group.add(
        "remove",
        remove,
        "remove a limit, with its counters",
        "flint limit remove login",
        "flint limit remove 'user:*' --name day",
    )
    key_argument(parser)
    name_options(parser)
    parser = group.add(
        "reset",
        reset,
        "forget what is used of a limit",
        "flint limit reset login",
        "flint limit reset user:42",
    )
    key_argument(parser)
    name_options(parser)


def add_looking(group: Verbs) -> None:
    parser = group.add(
        "list",
        show_list,
        "list all limits and templates",
        "flint limit list",
        "flint limit list --counters --json",
    )
    parser.add_argument("--counters", action="store_true", help="also keys covered by a template")
    parser = group.add(
        "status",
        status,
        "show one limit",
        "flint limit status login",
        "flint limit status user:42 --json",
    )
    key_argument(parser)
    name_options(parser)


def add_checking(group: Verbs) -> None:
    parser = group.add(
        "check",
        check,
        "use units of a limit, if they are there",
        "flint limit check login",
        "flint limit check user:42 --cost 10 --fail-on-deny",
    )
    parser.add_argument("key", metavar="KEY", help="the key, taken as it is")
    parser.add_argument("--cost", type=int, default=1, metavar="N", help="units (default: 1)")
    fail_option(parser)
    parser = group.add(
        "check-all",
        check_all,
        "use units of several limits: of all, or of none",
        "flint limit check-all user:42 search",
        "flint limit check-all user:42 tenant:7 --cost tenant:7=10",
    )
    parser.intermixed = True
    parser.add_argument("keys", nargs="*", metavar="KEY", help="a key, taken as it is")
    parser.add_argument(
        "--cost", action="append", default=[], metavar="KEY=N", help="units of one key"
    )
    parser.add_argument("--costs", metavar="N,N", help="units of each KEY, in their order")
    fail_option(parser)


def fail_option(parser: Parser) -> None:
    parser.add_argument(
        "--fail-on-deny", action="store_true", help=f"a denial ends with exit code {DENIED}"
    )


# ---- Configuring -------------------------------------------------------------------------------


def add(context: Context) -> int:
    args = context.args
    if args.limit is not None and (args.rate is not None or args.per is not None):
        raise UsageError("--rate and --per say the same as LIMIT: give one of them")
    if args.limit is None and (args.rate is None or args.per is None):
        raise UsageError("required: LIMIT, such as 100/minute, or --rate and --per")
    values: dict[str, Any] = {
        "rate": args.rate if args.limit is None else args.limit,
        "per": args.per,
        "burst": args.burst,
        "algorithm": args.algorithm,
        "template": args.template,
        "if_absent": args.if_absent,
        "name": args.name,
        "stack": args.stack,
    }
    with writing(context, lambda one: one.limit(args.key, **values), create=True) as limiter:
        limiter.limit(args.key, **values)
    context.out.words("configured")
    return OK


def remove(context: Context) -> int:
    args = context.args
    with writing(context, lambda one: find(one, args)) as limiter:
        limiter.remove(args.key, args.template, name=args.name)
    context.out.words("removed")
    return OK


def reset(context: Context) -> int:
    args = context.args
    with writing(context, lambda one: find(one, args)) as limiter:
        limiter.reset(args.key, args.template, name=args.name)
    context.out.words("reset")
    return OK


# ---- Looking -----------------------------------------------------------------------------------


def find(limiter: Opened, args: Any) -> list[StatusDict]:
    """The limits that a key and a name mean. Raises NotConfiguredError where there are none."""
    found = statuses(limiter, args)
    if not found:
        limiter.peek(args.key)  # says so, in the library's words
        named = "" if args.name is None else f", with the name {args.name}"
        raise CommandError(f"there is no limit of exactly this key{named}: {args.key}")
    return found


def statuses(limiter: Opened, args: Any) -> list[StatusDict]:
    one = limiter.status(args.key, args.template, name=args.name)
    if one is not None:
        return [one]
    if args.name is not None:
        return []
    template = args.template is None and args.key.endswith("*")
    return [s for s in limiter.list() if s["key"] == args.key and s["template"] == template]


def show_list(context: Context) -> int:
    with reading(context) as limiter:
        found = limiter.list(counters=context.args.counters)
        now_s = limiter.info()["engine_time_ns"] / 1e9
    context.out.value([status_shape(one) for one in found], lambda: show_table(found, now_s))
    return OK


def status(context: Context) -> int:
    with reading(context) as limiter:
        found = statuses(limiter, context.args)
        now_s = limiter.info()["engine_time_ns"] / 1e9
    shapes = [status_shape(one) for one in found]
    value = shapes if len(shapes) > 1 else shapes[0] if shapes else None
    context.out.value(value, lambda: show_statuses(context.args.key, found, now_s))
    return OK


def show_table(found: list[StatusDict], now_s: float) -> None:
    from flint._cli.tables import Column, bar, print_table

    columns = (
        Column("limit"),
        Column("algorithm", style="dim", gives_way=True),
        Column("left", numbers=True),
        Column("", gives_way=True),
        Column("full", gives_way=True),
        Column("allowed", numbers=True),
        Column("denied", numbers=True),
        Column("last denied", gives_way=True),
        Column("key", style="bold"),
    )
    rows = (
        (
            rate(one["rate"], one["per_ns"], one["burst"]),
            one["algorithm"],
            f"{one['remaining']:,}",
            bar(one["remaining"], one["burst"]),
            ahead(one["reset_at"], now_s),
            f"{one['total_allowed']:,}",
            f"{one['total_denied']:,}",
            ago(one["last_denied_at"], now_s),
            one["key"] if one["name"] is None else f"{one['key']}  {one['name']}",
        )
        for one in found
    )
    print_table(columns, rows)


def show_statuses(key: str, found: list[StatusDict], now_s: float) -> None:
    from flint._cli.tables import print_pairs

    if not found:
        print(f"no limit covers {shown(key)}")
    for one in found:
        print_pairs(explain.pairs(one, now_s))


# ---- Checking ----------------------------------------------------------------------------------


def check(context: Context) -> int:
    args = context.args
    with writing(context, lambda one: one.peek(args.key, args.cost)) as limiter:
        result = limiter.check(args.key, args.cost)
    context.out.value(check_shape(result), lambda: show_check(result))
    return DENIED if args.fail_on_deny and not result.allowed else OK


def show_check(result: Any) -> None:
    from flint._cli.tables import console
    from flint._cli.text import length

    style, word = ("green", "allowed") if result.allowed else ("red", "denied")
    more = "" if result.allowed else f", try again in {length(result.retry_after)}"
    console().print(f"{word}: {shown(result.key)}, {result.remaining:,} left{more}", style=style)


def check_all(context: Context) -> int:
    args = context.args
    items = costs.items(args.keys, args.cost, args.costs)
    with writing(context, lambda one: [one.peek(key, cost) for key, cost in items]) as limiter:
        answer = limiter.check_all(items)
    context.out.value(check_all_shape(answer), lambda: show_check_all(answer))
    return DENIED if args.fail_on_deny and not answer["allowed"] else OK


def show_check_all(answer: CheckAllDict) -> None:
    from flint._cli.tables import Column, console, print_table

    results = answer["results"]
    if not answer["allowed"]:
        last = results[-1]  # the others are told as if they had been used
        left = f"{last['remaining']:,} left and {last['cost']:,} asked for"
        text = f"denied: {shown(last['key'])}, {left}; nothing is used of the others"
        console().print(text, style="red")
        return
    console().print("allowed", style="green")
    columns = (Column("cost", numbers=True), Column("left", numbers=True), Column("key"))
    rows = ((f"{one['cost']:,}", f"{one['remaining']:,}", one["key"]) for one in results)
    print_table(columns, rows)
