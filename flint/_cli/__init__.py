"""The `flint` command.

`main` is where it begins, `parser` lists the verbs, and each group of them has a file: `limits`
(with `explain`, `history`, `costs`), `top` (with `watch`, `sampler`, `view`, `live`), `log` (with
`dump`), `doctor`, `completion`. The rest is what they share: where settings come from (`settings`),
opening (`opening`), how a command ends (`run`, `failure`), and what is shown (`output`, `shapes`
for JSON; `text`, `tables`, `progress` for people)."""
