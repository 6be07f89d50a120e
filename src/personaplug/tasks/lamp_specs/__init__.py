"""LaMP's seven tasks, one record each: fields, the words around a question's query, how profile items are written."""

from __future__ import annotations

from dataclasses import dataclass

from personaplug.tasks.base import Kind, Wording


@dataclass(frozen=True, slots=True)
class Spec:
    """One of the tasks.

    Attributes:
        title: what is asked for.
        kind: of answer.
        input: the profile field that becomes a behaviour's input, or "".
        output: the profile field that becomes its output.
        before: the words of a question right before its query, the part that is not template.
        wording: how LaMP writes profile items into a question (its per-task prompts), and what is asked of a
            language model that writes a profile.
        after: the words right after the query, or "" where it reaches to the end.
        history_text: what encoders see of a behaviour; as in Persona-Plug, arXiv 2409.11901.
        options: the closed set of answers, in the official evaluator's order.
        max_tokens: of an answer.
        published_as: the task's name inside the files, where it is another.
    """

    title: str
    kind: Kind
    input: str
    output: str
    before: str
    wording: Wording
    after: str = ""
    history_text: str = "{input} {output}"
    options: tuple[str, ...] = ()
    max_tokens: int = 128
    published_as: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The official ones."""
        return {"choice": ("accuracy", "macro_f1"), "rating": ("mae", "rmse")}.get(self.kind, ("rouge1", "rougeL"))


_TAGS = (
    "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic",
    "psychology", "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story",
)  # fmt: skip
_CATEGORIES = (
    "food & drink", "sports", "education", "parents", "religion", "travel", "business", "crime",
    "science & technology", "culture & arts", "entertainment", "politics", "women", "style & beauty", "healthy living",
)  # fmt: skip

SPECS: dict[str, Spec] = {
    "LaMP_1": Spec(
        "citation identification",
        "choice",
        input="abstract",
        output="title",
        before='paper with the title "',
        wording=Wording(
            item='"{output}"',
            after="title",
            profile="Name the research topics and interests of the person who wrote these papers, in two sentences.",
        ),
        after='", which reference is related?',
        history_text="{output} {input}",
        options=("[1]", "[2]"),
        max_tokens=8,
    ),
    "LaMP_2": Spec(
        "movie tagging",
        "choice",
        input="description",
        output="tag",
        before="description: ",
        wording=Wording(
            item='the tag for the movie: "{input}" is "{output}"',
            profile="Say in two sentences which tags this person gives most often, and to what kind of movie.",
        ),
        history_text="{input}",
        options=_TAGS,
        max_tokens=16,
    ),
    "LaMP_2N": Spec(
        "news categorization (the first form of LaMP_2)",
        "choice",
        input="text",
        output="category",
        before="article: ",
        wording=Wording(
            item='the category for the article: "{input}" is "{output}"',
            profile="Say in two sentences which categories this author's articles fall into most often.",
        ),
        history_text="{input}",
        options=_CATEGORIES,
        max_tokens=16,
        published_as="LaMP_2",
    ),
    "LaMP_3": Spec(
        "product rating",
        "rating",
        input="text",
        output="score",
        before="review: ",
        wording=Wording(
            item='{output} is the score for "{input}"',
            profile="Say in two sentences which scores this person most often gives when they like a product and "
            "when they do not.",
        ),
        history_text="{input}",
        options=("1", "2", "3", "4", "5"),
        max_tokens=10,
    ),
    "LaMP_4": Spec(
        "news headline",
        "text",
        input="text",
        output="title",
        before="article: ",
        wording=Wording(
            item='"{output}" is the title for "{input}"',
            profile="Describe in two sentences the pattern of this author's headlines: length, tone, wording.",
        ),
    ),
    "LaMP_5": Spec(
        "scholarly title",
        "text",
        input="abstract",
        output="title",
        before="paper: ",
        wording=Wording(
            item='"{output}" is a title for "{input}"',
            whole="{items}. Following the given patterns {request}",
            profile="Describe in two sentences the pattern of this researcher's paper titles, and their topics.",
        ),
        history_text="{output} {input}",
    ),
    "LaMP_6": Spec(
        "e-mail subject",
        "text",
        input="text",
        output="title",
        before="email: ",
        wording=Wording(
            item='"{output}" is the title for "{input}"',
            profile="Describe in two sentences how this person words the subjects of their e-mails.",
        ),
    ),
    "LaMP_7": Spec(
        "tweet paraphrase",
        "text",
        input="",
        output="text",
        before="before or after it: ",
        wording=Wording(
            item='"{output}"',
            whole="{items} are written by a person. Following the given patterns {request}",
            profile="Describe in two sentences how this person tweets: tone, punctuation, casing, favourite words.",
        ),
        history_text="{output}",
    ),
}
