package transcript

import (
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

func made(a *ceremony.Attempt, generation uint64, threshold int) Entry {
	e := step(Generation, a)
	e.Generation, e.Threshold, e.Holders = generation, threshold, holders(generation, 3)
	return e
}

func commit(a *ceremony.Attempt, generation uint64) Entry {
	e := step(Commit, a)
	e.Generation = generation
	return e
}

func approved(a *ceremony.Attempt) []Entry {
	return []Entry{start(a), approve(a, 1, holder.ModeShare), approve(a, 2, holder.ModeSignature)}
}

// TestHistory is what a server may say about generations and ceremonies, and what it may not, although every signature
// in it is valid. The first entry is that of init: 2 of 3.
func TestHistory(t *testing.T) {
	root, later := newAttempt(ceremony.RootToken, "root", 2), attemptOf(2, ceremony.RootToken, "later", 2)
	plain, checked, all := rekeyTo(1, "plain", "2", ""), rekeyTo(1, "checked", "2", "threshold"), rekeyTo(1, "all", "2", "all")
	second := rekeyTo(2, "second", "2", "")
	var labels []ceremony.Parameter
	for i, name := range []string{"alice", "holder 2", "holder 3"} {
		labels = append(labels, ceremony.Parameter{Name: "holder.00" + string(rune('1'+i)), Value: name})
	}
	relabel := newAttempt(ceremony.Holders, "relabel", 2, labels...)
	named := func(a *ceremony.Attempt, name string) Entry {
		e := made(a, 1, 2)
		e.Holders[0].Label = name
		return e
	}
	lost := Entry{Time: epoch, Event: End, Generation: 2}
	retire := Entry{Time: epoch, Event: Retire, Generation: 1}
	again := Entry{Time: epoch, Event: VerificationReset, Kind: checked.Kind, Nonce: checked.Nonce, Generation: 2}
	share := func(generation uint64) Entry { e := unsealShare(3); e.Generation = generation; return e }
	from := func(a *ceremony.Attempt, list ...Entry) []Entry { return append(approved(a), list...) }
	then := func(lists ...[]Entry) []Entry { return slices.Concat(lists...) }
	committed := from(plain, made(plain, 2, 2), commit(plain, 2), step(Complete, plain))
	waiting := from(checked, made(checked, 2, 2), step(Complete, checked))
	proofs := []Entry{prove(1, "v"), prove(3, "v")}
	for name, c := range map[string]struct {
		list []Entry
		says string
	}{
		"root token":                         {from(root, step(Complete, root)), ""},
		"plain rekey":                        {then(committed, from(later, step(Complete, later))), ""},
		"verified rekey":                     {then(waiting, proofs, []Entry{commit(checked, 2)}, from(later, step(Complete, later))), ""},
		"verified by all":                    {then(from(all, made(all, 2, 2), step(Complete, all)), proofs, []Entry{prove(2, "v"), commit(all, 2)}), ""},
		"verified anew":                      {then(waiting, proofs[:1], []Entry{again, prove(1, "w"), prove(2, "w"), commit(checked, 2)}), ""},
		"cancelled while it waits":           {then(waiting, proofs[:1], []Entry{step(Cancel, checked)}, from(root, step(Complete, root))), ""},
		"objection while it waits":           {then(waiting, []Entry{against(Object, checked, 3)}, proofs, []Entry{commit(checked, 2)}), ""},
		"cancelled, and another":             {then(waiting, []Entry{step(Cancel, checked)}, from(plain, made(plain, 3, 2), commit(plain, 3), step(Complete, plain))), ""},
		"its record lost, and another":       {then(waiting, []Entry{lost}, from(plain, made(plain, 3, 2), commit(plain, 3), step(Complete, plain))), ""},
		"the old unseal until they retire":   {then(committed, []Entry{share(1), share(2), retire, share(2)}), ""},
		"two rekeys":                         {then(committed, from(second, made(second, 3, 2), commit(second, 3), step(Complete, second))), ""},
		"new labels":                         {from(relabel, named(relabel, "alice"), step(Complete, relabel)), ""},
		"two completes":                      {from(root, step(Complete, root), step(Complete, root)), "entry 5 (complete): the attempt was complete already"},
		"complete after cancel":              {from(root, against(Cancel, root, 2), step(Complete, root)), "entry 5 (complete): the attempt was over"},
		"complete after expire":              {from(root, step(Expire, root), step(Complete, root)), "entry 5 (complete): the attempt was over"},
		"complete after it gave way":         {from(root, step(GaveWay, root), step(Complete, root)), "entry 5 (complete): the attempt was over"},
		"cancel after complete":              {from(root, step(Complete, root), step(Cancel, root)), "entry 5 (cancel): the attempt was over"},
		"cancel after commit":                {then(committed, []Entry{step(Cancel, plain)}), "entry 7 (cancel): the attempt was over"},
		"cancel twice":                       {from(root, step(Cancel, root), step(Cancel, root)), "entry 5 (cancel): the attempt was over"},
		"complete without what it was for":   {from(plain, step(Complete, plain)), "entry 4 (complete): what it was for"},
		"two generations of one rekey":       {from(plain, made(plain, 2, 2), made(plain, 3, 2)), "entry 5 (generation): its ceremony had its effect before"},
		"both in force":                      {from(plain, made(plain, 2, 2), made(plain, 3, 2), commit(plain, 2), commit(plain, 3)), "entry 7 (commit): the generation came into force before"},
		"generation after the end":           {from(checked, step(Cancel, checked), made(checked, 2, 2)), "entry 5 (generation): its ceremony was over"},
		"generation after complete":          {from(plain, step(Complete, plain), made(plain, 2, 2)), "entry 5 (generation): its ceremony was over"},
		"a lower number":                     {then(from(plain, made(plain, 5, 2), commit(plain, 5)), []Entry{made(plain, 3, 2)}), "entry 6 (generation)"},
		"start by the old":                   {then(committed, []Entry{start(root)}), "entry 7 (start): generation 1 is not in force"},
		"start by the retired":               {then(committed, []Entry{retire, start(root)}), "entry 8 (start): generation 1 is not in force"},
		"start by the pending":               {then(waiting, []Entry{start(later)}), "entry 6 (start): generation 2 is not in force"},
		"approval by the old":                {then([]Entry{start(root)}, committed, []Entry{approve(root, 1, holder.ModeShare)}), "entry 8 (approve): generation 1 is not in force"},
		"complete by the old":                {then(approved(root), committed, []Entry{step(Complete, root)}), "entry 10 (complete): generation 1 is not in force"},
		"generation by the old":              {then(approved(checked), committed, []Entry{made(checked, 3, 2)}), "entry 10 (generation): generation 1 is not in force"},
		"commit by the old":                  {then(from(checked, made(checked, 3, 2), step(Complete, checked)), committed, []Entry{commit(checked, 3)}), "entry 12 (commit): generation 1 is not in force"},
		"no proofs":                          {then(waiting, []Entry{commit(checked, 2)}), "entry 6 (commit): only 0 of the 2 proofs"},
		"one proof twice":                    {then(waiting, []Entry{prove(1, "v"), prove(1, "v"), commit(checked, 2)}), "entry 8 (commit): only 1 of the 2 proofs"},
		"proofs of two verifications":        {then(waiting, []Entry{prove(1, "v"), prove(2, "w"), commit(checked, 2)}), "entry 8 (commit): only 1 of the 2 proofs"},
		"proofs from before it began anew":   {then(waiting, proofs, []Entry{again, commit(checked, 2)}), "entry 9 (commit): only 0 of the 2 proofs"},
		"a proof from before it began anew":  {then(waiting, proofs, []Entry{again, prove(1, "v")}), "entry 9 (prove): this verification had begun anew"},
		"a quorum where all are to prove":    {then(from(all, made(all, 2, 2), step(Complete, all)), proofs, []Entry{commit(all, 2)}), "entry 8 (commit): only 2 of the 3 proofs"},
		"proofs before it is complete":       {then(from(checked, made(checked, 2, 2)), proofs, []Entry{commit(checked, 2)}), "entry 7 (commit): its ceremony was not complete"},
		"proof of what is in force":          {then(committed, []Entry{prove(1, "v")}), "entry 7 (prove): generation 2 doesn't wait"},
		"proof of what was cancelled":        {then(waiting, []Entry{step(Cancel, checked), prove(1, "v")}), "entry 7 (prove): generation 2 doesn't wait"},
		"commit after cancel":                {then(waiting, proofs, []Entry{step(Cancel, checked), commit(checked, 2)}), "entry 9 (commit): its ceremony was over"},
		"commit after its record was lost":   {then(waiting, proofs, []Entry{lost, commit(checked, 2)}), "entry 9 (commit): its ceremony was over"},
		"commit of nobody's generation":      {[]Entry{{Time: epoch, Event: Commit, Generation: 77}}, "entry 1 (commit): generation 77 was not made"},
		"commit of the first generation":     {[]Entry{{Time: epoch, Event: Commit, Generation: 1}}, "entry 1 (commit): generation 1 was not made"},
		"commit by another ceremony":         {then(approved(root), from(plain, made(plain, 2, 2), commit(root, 2))), "entry 8 (commit): it names another ceremony"},
		"commit twice":                       {then(committed, []Entry{commit(plain, 2)}), "entry 7 (commit): the generation came into force before"},
		"retire of what is in force":         {[]Entry{retire}, "entry 1 (retire): generation 1 wasn't retiring"},
		"retire twice":                       {then(committed, []Entry{retire, retire}), "entry 8 (retire)"},
		"retire after verification":          {then(waiting, proofs, []Entry{commit(checked, 2), retire}), "entry 9 (retire)"},
		"share of the retired":               {then(committed, []Entry{retire, share(1)}), "entry 8 (unseal-share): generation 1 can't unseal"},
		"share of the pending":               {then(waiting, []Entry{share(2)}), "entry 6 (unseal-share): generation 2 can't unseal"},
		"labels that nobody approved":        {from(relabel, named(relabel, "mallory"), step(Complete, relabel)), "entry 4 (generation): it has other labels"},
		"labels by a root token":             {from(root, named(root, "mallory"), step(Complete, root)), "entry 4 (generation): its ceremony was not for other labels"},
		"labels twice":                       {from(relabel, named(relabel, "alice"), named(relabel, "alice")), "entry 5 (generation): its ceremony had its effect before"},
		"labels of the old":                  {then(approved(relabel), committed, []Entry{named(relabel, "alice")}), "entry 10 (generation): generation 1 is not in force"},
		"new holders' labels":                {from(plain, func() Entry { e := made(plain, 2, 2); e.Holders[2].Label = "mallory"; return e }()), "entry 4 (generation): it has other labels"},
		"new holders' labels left out":       {from(plain, func() Entry { e := made(plain, 2, 2); e.Holders[2].Label = ""; return e }()), "entry 4 (generation): it has other labels"},
		"new holders' threshold":             {from(plain, made(plain, 2, 1)), "entry 4 (generation): it has other numbers"},
		"new holders' number":                {from(plain, func() Entry { e := made(plain, 2, 2); e.Holders = e.Holders[:2]; return e }()), "entry 4 (generation): it has other numbers"},
		"share taken unchecked":              {[]Entry{{Time: epoch, Event: UnsealShare, Detail: UncheckedShare}}, ""},
		"share unchecked for another reason": {[]Entry{{Time: epoch, Event: UnsealShare, Detail: "x"}}, "entry 1 (unseal-share): the signature"},
		"share again":                        {func() []Entry { l := placed(edge{}, initial(), share(1)); return append(l[1:], l[1]) }(), "entry 2 (unseal-share): it was made for another place"},
	} {
		t.Run(name, func(t *testing.T) {
			s := signer(t)
			st, leaves := logOf(t, s, placed(edge{}, append([]Entry{initial()}, c.list...)...)...)
			r := verify(t, export(t, s, checkpointOf(t, st), leaves), VerifyOptions{VerifierKey: s.VerifierKey()})
			wantProblem(t, r, c.says)
			if want := name == "share taken unchecked"; (r.Unchecked == 1) != want {
				t.Errorf("%d shares were taken unchecked", r.Unchecked)
			}
		})
	}
}

func initial() Entry {
	return Entry{Time: epoch, Event: Init, Generation: 1, Threshold: 2, Holders: holders(1, 3)}
}
