"""What the demonstration shows while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

# Enough of a long result to see what it is.
SHOWN = 100


class Screen:
    """Prints each step as it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._chapter = 0

    def heading(self, title: str, about: str) -> None:
        self._chapter += 1
        self._console.print(f"\n[bold cyan]{self._chapter}. {title}[/]  [dim]{about}[/]")

    def line(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def nodes(self, nodes: list[dict[str, Any]]) -> None:
        table = Table("participant", "kind", "process", "address", box=None, pad_edge=False)
        for node in nodes:
            table.add_row(node["name"], node["kind"], str(node["pid"]), node["url"])
        self._console.print(table)

    def published(self, node: str, title: str, made: Mapping[str, Any]) -> None:
        self.line(f"  [green]✓[/] {node} offers [bold]{title}[/]")
        for report in made["quality"] or []:
            dirt = ", ".join(f"{count} {reason}" for reason, count in report["invalid"].items())
            self.line(
                f"    [dim]{report['rows']} rows, {report['valid']} usable identifiers, "
                f"{report['blank']} blank, {report['duplicates']} repeated"
                f"{'; unusable: ' + dirt if dirt else ''}[/]"
            )

    def agreed(self, record: Mapping[str, Any]) -> None:
        self.line(
            f"  [green]✓[/] {record['provider']} / {record['dataset']}: agreement "
            f"[dim]{record['id']}[/] in {record['seconds']:.2f} s"
        )

    def result(self, record: Mapping[str, Any]) -> None:
        same = record["value"] == record["expected"]
        mark = "[green]✓ equal[/]" if same else "[bold red]✗ different[/]"
        self.line(f"\n  [bold]{record['title']}[/]  [dim]{record['kind']}[/]")
        self.line(f"    private  {_short(record['value'])}   in {record['seconds']:.2f} s")
        self.line(f"    plain    {_short(record['expected'])}   {mark}")
        for role, learns in record["learned"].items():
            self.line(f"    [dim]{role}: {learns}[/]")

    def refusal(self, refusal: Mapping[str, Any]) -> None:
        if not refusal:
            self.line("  [bold red]✗ the use was not refused[/]")
            return
        self.line(f"  [green]✓ refused[/] {refusal['reason']}")
        self.line(f"    clause  {refusal['clause']}")
        self.line(f"    remedy  {refusal['remedy']}")

    def audit(self, audit: Mapping[str, Any]) -> None:
        for log in audit.get("logs", []):
            self.line(
                f"  [green]✓[/] {log['origin']}: {log['size']} entries, "
                f"{log['entries_opened']} opened, anchored up to {log['anchored_size']}"
            )
        for finding in audit.get("findings", []):
            self.line(f"  [bold red]✗[/] {finding['sentence']}")

    def tamper(self, tamper: Mapping[str, Any]) -> None:
        self.line(
            f"\n  then entry {tamper['index']} in a copy of the log of {tamper['log']} was altered "
            f"({tamper['field']}: {tamper['from']} → {tamper['to']})"
        )
        found = tamper["finding"]
        self.line(f"  [green]✓ found[/] {found}" if found else "  [bold red]✗ not found[/]")


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
