// Search: chapters before the notebooks that they show, and before the reference of the library.
// What a word is worth in a title or a text is as Sphinx has it; `score` is asked for each result found.
var Scorer = { // Sphinx declares it once more, which `const` would not allow
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([page, title, anchor, description, score]) =>
    /^(notebooks\/|api$|_modules\/)/.test(page) ? score - 20 : score,
};
