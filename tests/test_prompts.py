"""Prompts: the parts of an example, the borders between them, and refusals."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import refused
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from companion.data.ask import with_others
from companion.data.datasets import load_dataset
from companion.data.forms import OTHER, asked, exchanged
from companion.data.splits import item_id
from companion.models import model_of
from companion.templates import prompter as asking
from companion.tiny import tiny_tokenizer
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS, ask
from steerkit.generation import prompt_tokens
from steerkit.items import Item
from steerkit.prompts import STATEMENT_REQUEST, Prompter, _whole, yes_no_body
from steerkit.templates import DEFAULT_SYSTEM, TEMPLATES, Template

YES = Item("d/0003", "Do you love music?", " Yes", " No", statement="I love music a lot.")
NO = Item("d/0004", "Do you hate music?", " No", " Yes", statement="I hate music.")
OPTIONS = {"stem": "Which one?", "options": (("A", "red"), ("B", "blue river"))}
CHOICE = Item("d/0005", "Which one?\n\nChoices:\n (A) red\n (B) blue river", " (B)", " (A)", **OPTIONS)
PERSONA = ("You love music.", "You hate music.")
TRIPLES = [("How are your mornings?", "I love the sun.", "I hate the sun.")]
TRIPLES += [("What?", "books", "I do not read.")]


@pytest.fixture(scope="module")
def words():
    asked = [text for item in (YES, NO, CHOICE) for text in (item.question, item.statement or "")]
    spelled = [TEMPLATES["plain"].text, TEMPLATES["llama-2"].text, DEFAULT_SYSTEM, STATEMENT_REQUEST]
    asked += [yes_no_body(item, answer) for item in (YES, NO, CHOICE) for answer in ("Yes", "No")]
    return tiny_tokenizer([*spelled, *asked, *PERSONA, "(A):  Yes No Answer", *map(" ".join, TRIPLES)])


@pytest.fixture(scope="module")
def prompter(words):
    return asking(words, TEMPLATES["llama-2"], "as-released")


def merging_tokenizer(*merges: str) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer over single characters and the given merges only."""
    asked = "".join(item.question + (item.statement or "") for item in (YES, NO, CHOICE))
    pieces = ["<unk>", "<s>", *sorted({*asked, *"():YesNoAB.,\n "}), *merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    pairs = [(merged[:-1], merged[-1]) for merged in merges]
    built = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>"))
    built.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="<unk>", bos_token="<s>")


def parts(tokenizer, example) -> list[str]:
    """What stands after the prompt: lead, both answers, closing."""
    each = (example.lead, example.matching, example.not_matching, example.closing)
    return [tokenizer.decode(part) for part in each]


BARE = Template("bare", "{user}:", bos=False)  # no system text, and a prompt that ends in a mark


class TestLetter:
    def test_an_example_is_the_prompt_the_bracket_the_letter_and_the_bracket(self, words, prompter):
        example = prompter.letter(YES, "B")
        assert parts(words, example) == [" (", "B", "A", ")"]
        assert words.decode(example.prompt).endswith("Choices:\n(A):  No\n(B):  Yes [/INST]")
        labels = (example.id, example.format, example.positive_letter, example.positive_answer)
        assert labels == ("d/0003", "letter", "B", "Yes")

    def test_a_choice_item_is_asked_as_it_stands_with_its_own_letters(self, words, prompter):
        example = prompter.letter(CHOICE, "A")
        assert words.decode(example.prompt).endswith("\n\n" + CHOICE.question + " [/INST]")
        assert parts(words, example)[1:3] == ["B", "A"]
        assert (example.positive_letter, example.positive_answer) == ("B", "")
        other = prompter.letter(replace(CHOICE, matching=" (A)", not_matching=" (B)"), "B")
        assert (words.decode(other.matching), other.positive_letter) == ("A", "A")

    @pytest.mark.parametrize("merges", [("A)", "B)"), ("(A", "(B"), ("A)",)])
    def test_a_letter_that_a_tokenizer_merges_with_a_bracket_is_tokenised_apart(self, merges):
        merging, plain = merging_tokenizer(*merges), merging_tokenizer()
        found, expected = (Prompter(each, BARE).letter(YES, "A") for each in (merging, plain))
        assert parts(merging, found) == parts(plain, expected) == ["(", "A", "B", ")"]
        assert len(merging("(A)").input_ids) == 2 and len(found.matching) == 1

    def test_a_template_that_spells_out_the_beginning_gets_no_second_one(self, words):
        spelled = Prompter(words, Template("spelled", "<s>{user}")).letter(YES, "A")
        assert spelled.prompt == Prompter(words, Template("silent", "{user}")).letter(YES, "A").prompt
        assert spelled.prompt.count(words.bos_token_id) == 1


class TestOtherFormats:
    def test_a_statement_example_has_two_completions_of_one_request(self, words, prompter):
        example = prompter.statement(YES, NO)
        assert words.decode(example.prompt).endswith(f"\n\n{STATEMENT_REQUEST} [/INST]")
        assert parts(words, example) == ["", " I love music a lot.", " I hate music.", ""]
        assert example.positive_letter + example.positive_answer == ""
        # Of a choice item it asks the stem and scores the options.
        example = prompter.statement(CHOICE, CHOICE)
        assert words.decode(example.prompt).endswith("\n\nWhich one? [/INST]")
        assert parts(words, example)[1:3] == [" blue river", " red"]

    def test_a_yes_no_example_reads_the_first_token_in_which_the_answers_differ(self, words, prompter):
        example = prompter.yes_no(NO, "No")
        assert words.decode(example.prompt).endswith("\n\nDo you hate music? [/INST]")
        assert parts(words, example) == [" ", "No", "Yes", ""]
        assert (example.positive_letter, example.positive_answer) == ("", "No")
        # It can be asked so that either word shows the behaviour.
        turned = 'Is the following statement something you would not say?\n"I hate music."'
        assert yes_no_body(NO, "Yes") == turned and yes_no_body(NO, "No") == NO.question
        assert parts(words, prompter.yes_no(NO, "Yes"))[1:3] == ["Yes", "No"]
        for answer, option in (("Yes", "blue river"), ("No", "red")):  # of which it proposes one
            body = f"Which one?\n\nProposed answer: {option}\n\nIs this the answer you would give?"
            assert yes_no_body(CHOICE, answer) == body
            example = prompter.yes_no(CHOICE, answer)
            assert words.decode(example.matching) == example.positive_answer == answer

    def test_a_tokenizer_that_does_not_know_the_words_of_a_question_is_refused(self, prompter):
        """The letters it knows; every such question would be one and the same prompt."""
        foreign = replace(CHOICE, question="Который из них?\n\n (A) синий\n (B) красный")
        refused(prompter.letter, foreign, "A", said=r"keeps the text of item .*Который")

    def test_answers_are_cut_to_the_token_that_tells_them_apart_and_there_must_be_one(self, prompter):
        letters = merging_tokenizer()
        assert parts(letters, Prompter(letters, BARE).yes_no(YES, "Yes"))[1:3] == ["Y", "N"]
        with pytest.raises(SteerkitError, match=r"item d/0003.*the same tokens"):
            prompter.statement(YES, replace(NO, statement=YES.statement))


class TestSettings:
    def test_a_setting_without_its_sentences_or_unknown_is_refused(self, prompter):
        with pytest.raises(SteerkitError, match=r"sentence for setting USER_NEG.*use BASE"):
            asking(prompter.tokenizer, prompter.template, setting="USER_NEG")
        with pytest.raises(SteerkitError, match=r"BASE.*found 'SYS'"):
            asking(prompter.tokenizer, prompter.template, setting="SYS", persona=PERSONA)

    def test_a_base_model_is_asked_in_plain_text(self, words, prompter):
        base = replace(prompter, template=TEMPLATES["base"])
        asked = [base.letter(CHOICE, "B"), base.yes_no(YES, "Yes"), base.statement(CHOICE, CHOICE)]
        cue = tuple(words("\n\nAnswer:", add_special_tokens=False).input_ids)
        assert all(example.prompt[-len(cue) :] == cue for example in asked)
        assert base.statement(YES, NO).prompt == tuple(words(STATEMENT_REQUEST).input_ids)


class TestBorders:
    MERGES = (":(", ":Y", ":N", ":I")

    def test_a_prompt_whose_border_would_be_merged_is_joined_to_its_answer_instead(self):
        merged = merging_tokenizer(*self.MERGES)
        assert merged.decode(merged("?:(A)").input_ids[1:2]) == ":("  # this one does merge across the border
        example = Prompter(merged, BARE).letter(CHOICE, "B")
        assert example.prompt == tuple(merged(CHOICE.question + ":").input_ids)
        assert parts(merged, example) == ["(", "B", "A", ")"]

    def test_every_format_keeps_the_border(self):
        asked = Prompter(merging_tokenizer(*self.MERGES), replace(BARE, text="Yes:"))
        statement, word = asked.statement(YES, NO), asked.yes_no(YES, "Yes")
        assert asked.tokenizer.decode(statement.matching) == YES.statement
        assert statement.prompt == word.prompt == tuple(asked.tokenizer("Yes:").input_ids)
        assert asked.tokenizer.decode(word.matching) == "Y"
        # Where only one of the two answers is merged with the prompt, both still start after it.
        asked = Prompter(merging_tokenizer(":Y"), replace(BARE, text="Yes:"))
        assert parts(asked.tokenizer, asked.yes_no(YES, "Yes")) == ["", "Y", "N", ""]

    def test_an_answer_without_text_is_refused(self, words):
        ask, said = asking(words, BARE).example, "an answer with text for item d/0"
        refused(ask, "d/0", "statement", "music", (" ", "Yes"), _whole, said=said)

    def test_a_question_that_is_a_control_token_is_not_taken_for_the_templates(self):
        tokenizer = tiny_tokenizer(["a < / s > b Yes No"])
        template = replace(BARE, text="a </s> {user} </s>", bos=False)
        asked, end = asking(tokenizer, template), tokenizer.eos_token_id
        ids = list(asked.example("d/0", "statement", "</s>", ("Yes", "No"), _whole).prompt)
        assert ids.count(end) == 2 and ids.index(end) == 2 and ids[-1] == end and len(ids) > 6
        speaker = SimpleNamespace(tokenizer=tokenizer, template=template)
        assert prompt_tokens(speaker, "</s>") == ids

    @pytest.mark.parametrize("template", ["llama-2", "plain"])
    def test_a_control_token_in_a_data_set_is_text_in_question_and_answer(self, template):
        marked = "I love <s>plain</s> food."
        spelled = [STATEMENT_REQUEST, DEFAULT_SYSTEM, TEMPLATES[template].text]
        tokenizer = tiny_tokenizer([marked, "< s > < / s >", *spelled, "( A ) : ( B ) Yes No"])
        control = {*tokenizer.convert_tokens_to_ids(["<s>", "</s>"])}
        assert control & {*tokenizer(marked).input_ids}  # the tokenizer itself would take them for that
        item = Item("d/0000", marked, " Yes", " No", statement=marked)
        asked = asking(tokenizer, TEMPLATES[template])
        letter = asked.letter(item, "A")
        statement = asked.statement(item, replace(item, statement="I love food."))
        assert marked.replace(" ", "") in tokenizer.decode(letter.prompt).replace(" ", "")
        assert not control & {*letter.prompt[1:]} and not control & {*statement.matching}
        assert tokenizer.decode(statement.matching).replace(" ", "") == marked.replace(" ", "")


class TestPlainTexts:
    @pytest.fixture
    def chat(self, words):
        return SimpleNamespace(tokenizer=words, template=TEMPLATES["llama-2"])

    def test_a_triple_is_a_prompt_in_the_template_and_two_completions(self, words, chat):
        examples = ask(chat, TRIPLES)
        assert [example.id for example in examples] == ["0000", "0001"]
        for example, (prompt, yes, no) in zip(examples, TRIPLES, strict=True):
            assert words.decode(example.prompt).endswith(f"\n\n{prompt} [/INST]")
            assert parts(words, example) == ["", f" {yes}", f" {no}", ""]

    def test_as_a_choice_the_answers_are_listed_and_each_letter_is_that_of_half_of_them(self, words, chat):
        first, second = ask(chat, TRIPLES, "letter")
        assert "(A) I love the sun.\n (B) I hate the sun." in words.decode(first.prompt)
        assert "(A) I do not read.\n (B) books" in words.decode(second.prompt)
        assert (first.positive_letter, second.positive_letter) == ("A", "B")
        assert [example.positive_answer for example in ask(chat, TRIPLES, "yes-no")] == ["Yes", "No"]

    @pytest.mark.parametrize(
        ("triples", "form", "message"),
        [
            ([TRIPLES[0], ("a", "b")], "letter", r"two answers in triple 1, three texts.*found \('a', 'b'\)"),
            (["abc"], "letter", "three texts that are not empty; found 'abc'"),
            ([("a", "b", 3)], "letter", "three texts"),
            ([("a", "b", " ")], "letter", "three texts that are not empty"),
            ([TRIPLES[0], ("a", "b", "b ")], "letter", "two different answers in triple 1; found 'b' twice"),
            ([], "letter", "at least one"),
            (TRIPLES, "letters", r"an answer format \(letter, statement, yes-no, options\).*'letters'"),
        ],
    )
    def test_a_triple_that_is_none_is_refused_with_its_number(self, chat, triples, form, message):
        refused(ask, chat, triples, form, said=message)


PERSONA_SET, CHOICE_SET = load_dataset("narcissism"), load_dataset("survival-instinct")


class TestOtherForm:
    """Both forms of an item differ in nothing but the token that shows the behaviour."""

    @pytest.fixture
    def prompter(self) -> Prompter:
        return Prompter((model := model_of("tiny")).tokenizer, model.template)

    def test_an_item_is_asked_with_both_letters_and_with_both_words(self, prompter):
        for item in (PERSONA_SET.items[0], PERSONA_SET.items[1], CHOICE_SET.items[0], CHOICE_SET.items[1]):
            first, second = (asked(prompter, FORMATS["yes-no"], item, other=other) for other in (False, True))
            assert {first.positive_answer, second.positive_answer} == {"Yes", "No"}
            assert first.matching == second.not_matching and first.prompt != second.prompt
        item = PERSONA_SET.items[0]
        first, second = (asked(prompter, FORMATS["letter"], item, other=other) for other in (False, True))
        assert {first.positive_letter, second.positive_letter} == {"A", "B"}
        assert first.matching == second.not_matching and first.not_matching == second.matching
        assert first.positive_answer == second.positive_answer and second.id == first.id + OTHER
        assert item_id(second.id) == item_id(first.id) == item.id

    def test_a_choice_item_gets_its_options_exchanged_and_nothing_else(self):
        """These sets hold each question in both orders, so one item's other form is its neighbour."""
        for first, second in zip(CHOICE_SET.items[::2], CHOICE_SET.items[1::2], strict=True):
            turned = exchanged(first)
            assert turned.question == second.question and exchanged(turned) == first
            assert (turned.stem, turned.matching_text) == (first.stem, first.matching_text)
            assert turned.matching == first.not_matching

    def test_an_option_text_that_contains_the_other_is_exchanged_whole_and_a_third_cannot_be(self):
        options, question = (("A", "red"), ("B", "red and blue")), "Which?\n (A) red\n (B) red and blue"
        item = Item("d/0000", question, " (B)", " (A)", stem="Which?", options=options)
        assert exchanged(item).question == "Which?\n (A) red and blue\n (B) red"
        with pytest.raises(SteerkitError, match=r"two options in d/0000.*found 3"):
            exchanged(replace(item, options=(*options, ("C", "c"))))

    def test_second_forms_that_a_set_has_already_are_not_added_again(self, prompter):
        form = FORMATS["letter"]
        firsts = [asked(prompter, form, item, other=False) for item in CHOICE_SET.items]
        others = [asked(prompter, form, item, other=True) for item in CHOICE_SET.items]
        assert with_others(firsts, others) == firsts
        assert with_others(firsts[:1], others[:1]) == [firsts[0], others[0]]
