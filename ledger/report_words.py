"""The words of a printed report, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Words:
    """The fixed texts of a report. `findings` has, for each code, what it means; `checks`, for
    each code, what was checked and what it leaves open when it is not complete."""

    code: str
    title: str
    clean: str
    found: str
    logs: str
    findings_title: str
    checks_title: str
    limits_title: str
    limits: tuple[str, ...]
    log_columns: tuple[str, ...]
    finding_columns: tuple[str, ...]
    check_columns: tuple[str, ...]
    complete: str
    partial: str
    not_done: str
    no_entry: str
    revoked: str
    hidden: str
    findings: Mapping[str, str]
    checks: Mapping[str, str]


ENGLISH = Words(
    code="en",
    title="Audit of evidence logs",
    clean="Nothing was found. What was checked is consistent.",
    found="Findings: {count}.",
    logs="Logs",
    findings_title="Findings and their evidence",
    checks_title="What was checked, and how much of it",
    limits_title="What this audit cannot show",
    limits=(
        "That a record is true: only that it was made, by whom, before its anchor, and has not "
        "changed since.",
        "What two parties left out of both their logs together.",
        "What is in entries whose bodies were erased or not shown to the auditor.",
        "That the chain's endpoint told the truth about the chain: compare with another endpoint.",
    ),
    log_columns=(
        "Log",
        "Owner's account",
        "Entries",
        "Read",
        "Opened",
        "Erased",
        "Anchors",
        "Anchored",
        "Not anchored yet",
        "From an earlier audit",
        "Cosigned by",
    ),
    finding_columns=("No.", "Kind", "Log", "Entry", "Evidence"),
    check_columns=("Check", "Done", "Of", "State"),
    complete="complete",
    partial="in part",
    not_done="not checked",
    no_entry="whole log",
    revoked="revoked",
    hidden="bodies not shown",
    findings={
        "agreement-altered": "The text shown is not the agreement that was recorded",
        "agreement-differs": "The parties recorded different texts of one agreement",
        "agreement-unreadable": "The text of an agreement cannot be read",
        "anchor-late": "Entries were anchored later than allowed",
        "anchors-changed": "The chain no longer has an anchor it had",
        "checkpoint-invalid": "What the log signed is not its checkpoint",
        "checkpoint-unsigned": "The checkpoint is not signed by the log's key",
        "commitment-malformed": "A leaf is not a commitment",
        "commitments-missing": "The log shows fewer entries than it claims",
        "completed-without-permit": "A computation was completed without a permit",
        "cosignature-invalid": "A witness's cosignature is forged or damaged",
        "cosignatures-missing": "Too few witnesses cosigned",
        "entries-missing": "Fewer bodies are shown than there are entries",
        "entries-unreachable": "The log stopped showing bodies",
        "entry-altered": "An entry's content was altered",
        "entry-foreign": "An entry belongs to another log",
        "entry-malformed": "An entry is not a valid record",
        "entry-repeated": "An entry repeats a record",
        "history-rewritten": "Entries were changed after they were recorded",
        "key-retired": "A replaced key signed what it no longer may",
        "key-unusable": "The key on the chain is not usable",
        "log-rewound": "Entries were removed from the end",
        "log-too-large": "The log claims too many entries to read",
        "log-unreachable": "The log cannot be read",
        "log-unregistered": "The log is not registered on the chain",
        "use-not-allowed": "A use was permitted that the agreement does not allow",
        "decision-differs": "A use was refused that the agreement allows",
        "decision-not-replayable": "A decision cannot be asked again: its basis is not shown",
        "budget-understated": "A log takes less of a privacy budget to be spent than it was",
        "use-after-end": "A use was permitted after the agreement had been ended",
        "record-missing": "One side has no record of what the other recorded",
        "refused-but-completed": "A refused order was completed",
        "root-differs": "The entries are not what the owner signed",
        "transcript-differs": "The participants saw different computations",
    },
    checks={
        "logs-read": "Logs read from beginning to end",
        "anchors-compared": "Anchors on the chain compared with the recomputed root",
        "entries-opened": "Entries whose body was opened against its commitment, and matched with "
        "the records of other logs",
        "anchor-delay": "Entries whose time was compared with the time of their anchor",
        "witnesses": "Logs whose checkpoint had to be cosigned by witnesses",
        "agreements-judged": "Agreements whose uses were judged by the agreement's text",
    },
)

CHINESE = Words(
    code="zh-CN",
    title="存证日志审计报告",
    clean="未发现问题。已检查的内容相互一致。",
    found="发现 {count} 项问题。",
    logs="日志",
    findings_title="发现的问题与证据",
    checks_title="检查范围与完成程度",
    limits_title="本次审计不能说明的事项",
    limits=(
        "记录内容是否属实：只能说明由谁、在锚定之前作出了记录，且此后未被改动。",
        "双方串通、在各自日志中同时遗漏的事项。",
        "正文已删除或未向审计方出示的条目内容。",
        "链的接口所述是否属实：请与另一接口对照。",
    ),
    log_columns=(
        "日志",
        "所有者账户",
        "条目数",
        "已读取",
        "已打开",
        "已删除",
        "锚定次数",
        "已锚定条目",
        "尚未锚定",
        "沿用此前审计",
        "见证方",
    ),
    finding_columns=("序号", "类别", "日志", "条目", "证据"),
    check_columns=("检查项", "已完成", "总数", "状态"),
    complete="完整",
    partial="部分",
    not_done="未检查",
    no_entry="整个日志",
    revoked="已吊销",
    hidden="未出示正文",
    findings={
        "agreement-altered": "出示的合约文本与记录的不是同一份",
        "agreement-differs": "各方记录的同一合约文本不一致",
        "agreement-unreadable": "无法读取合约文本",
        "anchor-late": "条目锚定超过允许的时限",
        "anchors-changed": "链上原有的锚定已不存在",
        "checkpoint-invalid": "日志签署的内容不是其检查点",
        "checkpoint-unsigned": "检查点未经日志密钥签名",
        "commitment-malformed": "叶节点不是承诺值",
        "commitments-missing": "日志出示的条目少于其声称的数目",
        "completed-without-permit": "未经许可完成了计算",
        "cosignature-invalid": "见证签名系伪造或已损坏",
        "cosignatures-missing": "见证签名数目不足",
        "entries-missing": "出示的正文少于条目数",
        "entries-unreachable": "日志中途停止出示正文",
        "entry-altered": "条目内容被篡改",
        "entry-foreign": "条目属于另一日志",
        "entry-malformed": "条目不是有效记录",
        "entry-repeated": "条目重复了已有记录",
        "history-rewritten": "条目在记录之后被改动",
        "key-retired": "已更换的密钥签署了其无权签署的内容",
        "key-unusable": "链上登记的密钥不可用",
        "log-rewound": "日志末尾的条目被删除",
        "log-too-large": "日志声称的条目过多，无法读取",
        "log-unreachable": "无法读取日志",
        "log-unregistered": "日志未在链上登记",
        "use-not-allowed": "允许了合约不允许的使用",
        "decision-differs": "拒绝了合约允许的使用",
        "decision-not-replayable": "某项决定无法复核：其依据未予展示",
        "budget-understated": "日志记录的已消耗隐私预算少于实际消耗",
        "use-after-end": "合约终止后仍允许了使用",
        "record-missing": "一方有记录而另一方没有",
        "refused-but-completed": "已被拒绝的指令仍被完成",
        "root-differs": "条目与所有者签署的内容不符",
        "transcript-differs": "各参与方看到的计算过程不一致",
    },
    checks={
        "logs-read": "从头到尾读取的日志",
        "anchors-compared": "与重新计算的根相比对的链上锚定",
        "entries-opened": "正文已按承诺值打开、并与其他日志记录比对的条目",
        "anchor-delay": "已将记录时间与锚定时间比对的条目",
        "witnesses": "要求检查点具有见证签名的日志",
        "agreements-judged": "已按合约文本判定使用情况的合约",
    },
)

WORDS: Mapping[Language, Words] = {"en": ENGLISH, "zh": CHINESE}
