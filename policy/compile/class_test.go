// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/selector"
)

// story is a Compiler of which interfaces get groups one by one.
type story struct {
	*testing.T
	*compile.Compiler
	options compile.Options
	// names are those of numbers and chains.
	names map[string]string
}

// pod sets a pod at an interface of its name, with one label.
func (s *story) pod(name, label string) {
	s.SetLocal(name, compile.Local{Interface: "cali" + name, Labels: map[string]string{label: ""}, Profiles: []string{"kns.a"}})
}

// done gives interfaces the groups that they are to have.
func (s *story) done(pods ...string) {
	for _, name := range pods {
		s.SetGroup("cali"+name, s.Group("cali"+name))
	}
}

// name gives the class of a pod, and its chain, a name.
func (s *story) name(pod, name string) {
	s.names[fmt.Sprintf("%#x", s.Group("cali"+pod)&^0x3fff)] = name // without the number of the other direction
	key, _ := s.ChainAt(compile.Check{Local: pod, Family: api.IPv4, Direction: api.Ingress})
	s.names[key.Name] = name
}

// told gives the rules that lead to pods, with the names, and how many chains have changed besides; then the interfaces
// that are to have other groups.
func (s *story) told() string {
	c := s.Update()
	root := chain.Key{Family: api.IPv4, Table: chain.Filter, Name: "cali-to-wl-dispatch"}
	var words []string
	for _, r := range s.Chains()[root].Rules {
		if r.Action.Verb == chain.SetMark || len(r.Conditions) == 0 || r.Action.Verb == chain.Drop {
			continue
		}
		to := s.names[r.Action.Text]
		if r.Action.Verb == chain.Report {
			to = r.Comment
		}
		from := strings.TrimPrefix(r.Conditions[0].String(), "out ")
		if g, ok := r.Conditions[0].(chain.LinkGroup); ok {
			number := fmt.Sprintf("%#x", g.Value)
			if from = "[" + s.names[number] + "]"; s.names[number] == "" {
				from = "[new]"
			}
		}
		words = append(words, from+" → "+to+";")
	}
	slices.Sort(words)
	return fmt.Sprintf("%d chains: ", len(c.Chains)) + strings.Join(append(words, c.Groups...), " ")
}

// labelled is a policy for pods with a label.
func labelled(name, label string, port uint16) *policy.Policy {
	p := ruled(name, allow(port))
	p.Selector = must(selector.Parse("has(" + label + ")"))
	return p
}

// TestClasses tells of pods, policies and groups as they come and go.
func TestClasses(t *testing.T) {
	o := compile.Options{Families: []api.Family{api.IPv4}, Groups: true}
	s := &story{T: t, Compiler: compile.New(o), options: o, names: map[string]string{}}
	s.SetProfile(policy.ImpliedProfile("a"))
	s.SetPolicy(labelled("web", "web", 80))
	s.SetPolicy(labelled("db", "db", 5432))
	s.told()
	for _, step := range []struct {
		what string
		do   func()
		want string
		// named is the pod whose class has the name that follows.
		named string
	}{
		{"a pod comes", func() { s.pod("a1", "web") }, "5 chains: [new] → ; calia1", "a1 web"},
		{"it has its group", func() { s.done("a1") }, "0 chains: [web] → web;", ""},
		{"another one comes", func() { s.pod("a2", "web") }, "0 chains: [web] → web; calia2", ""},
		{"one of another class comes", func() { s.done("a2"); s.pod("b1", "db") }, "3 chains: [new] → ; [web] → web; calib1", "b1 db"},
		{"nothing", func() { s.done("b1") }, "0 chains: [db] → db; [web] → web;", ""},
		{"one moves to another class", func() { s.pod("a2", "db") }, "3 chains: [db] → db; [web] → web; calia2 → db; calia2", ""},
		{"it has its group there", func() { s.done("a2") }, "3 chains: [db] → db; [web] → web;", ""},
		{"a policy has another rule", func() { s.SetPolicy(labelled("web", "web", 81)) }, "1 chains: [db] → db; [web] → web;", ""},
		{"all of a class have one more policy", func() { s.SetPolicy(labelled("more", "db", 1)) }, "5 chains: [db] → ; [new] → ; [web] → web; calia2 calib1", "b1 more"},
		{"no change", func() {}, "0 chains: [db] → more; [more] → more; [web] → web;", ""},
		{"one has its group", func() { s.done("a2") }, "0 chains: [db] → more; [more] → more; [web] → web;", ""},
		{"one comes", func() { s.pod("b2", "db") }, "0 chains: [db] → more; [more] → more; [web] → web; calib2", ""},
		{"the last has its group", func() { s.done("b1", "b2") }, "2 chains: [more] → more; [web] → web;", ""},
		{"a pod goes before its interface", func() { s.DeleteLocal("b2") }, "2 chains: [more] → more; [web] → web; calib2 → Unknown interface; calib2", ""},
		{"its interface goes", func() { s.SetGroup("calib2", 0) }, "2 chains: [more] → more; [web] → web;", ""},
		{"the last of a class goes before its interface", func() { s.DeleteLocal("a1") }, "4 chains: [more] → more; calia1 → Unknown interface; calia1", ""},
		{"it is there again", func() { s.pod("a1", "web") }, "4 chains: [more] → more; [web] → web; calia1", ""},
		{"somebody takes a group away", func() { s.SetGroup("calia1", 0) }, "0 chains: [more] → more; [web] → web;", ""},
		{"somebody gives it another", func() { s.SetGroup("calia1", 5) }, "3 chains: [more] → more; [web] → web; calia1 → web;", ""},
		{"or one that is not its own", func() { s.SetGroup("calia1", s.Group("calib1")) }, "3 chains: [more] → more; [web] → web; calia1 → web;", ""},
		{"an interface without a pod gets one", func() { s.SetGroup("calix", s.Group("calib1")) }, "2 chains: [more] → more; [web] → web; calia1 → web; calix → Unknown interface;", ""},
		{"without groups", func() { s.options.Groups = false; s.SetOptions(s.options) }, "4 chains: calia1 → web; calia2 → more; calib1 → more; calia1 calia2 calib1", ""},
	} {
		step.do()
		have := s.told()
		if pod, name, ok := strings.Cut(step.named, " "); ok {
			s.name(pod, name)
		}
		if diff := cmp.Diff(step.want, have); diff != "" {
			t.Errorf("%s: have (+) is not want (-):\n%s", step.what, diff)
		}
		if a := s.TakeAffected(); strings.Contains(step.what, "its group") && !a.Empty() {
			t.Errorf("%s: affects %s", step.what, a)
		}
	}
}

// TestClassOf holds which endpoints are of one class, and that it is the same for Compilers that were told in another order.
func TestClassOf(t *testing.T) {
	profile := func(name string, rules ...policy.Rule) *policy.Profile {
		return &policy.Profile{Name: name, Ingress: rules, Egress: rules}
	}
	all := policy.Rule{Action: api.Allow}
	profiles := []*policy.Profile{
		policy.ImpliedProfile("a"), policy.ImpliedProfile("b"), profile("ruled", allow(80)), profile("other", allow(80)), profile("empty"),
		{Name: "half", Ingress: []policy.Rule{all}},
	}
	pods := map[string]compile.Local{
		"a":            {Labels: map[string]string{"x": ""}, Profiles: []string{"kns.a"}},
		"b":            {Profiles: []string{"kns.b"}},
		"account":      {Profiles: []string{"empty", "kns.b", "ruled"}},
		"unknown":      {Profiles: []string{"nobody", "kns.a"}},
		"none":         {},
		"nobody":       {Profiles: []string{"nobody"}},
		"half":         {Profiles: []string{"half"}},
		"ruled":        {Profiles: []string{"ruled"}},
		"other":        {Profiles: []string{"other"}},
		"ruled, other": {Profiles: []string{"ruled", "other"}},
		"ruled, b":     {Profiles: []string{"ruled", "kns.b"}},
		"web":          {Labels: map[string]string{"web": ""}, Profiles: []string{"kns.a"}},
		"web of b":     {Labels: map[string]string{"web": ""}, Profiles: []string{"kns.b"}},
		"db":           {Labels: map[string]string{"db": ""}, Profiles: []string{"kns.a"}},
		"web, db":      {Labels: map[string]string{"db": "", "web": ""}, Profiles: []string{"kns.a"}},
	}
	want := "a = account = b = unknown; db; half; nobody = none; other; ruled; ruled, b; ruled, other; web = web of b; web, db"
	policies := []*policy.Policy{labelled("web", "web", 80), labelled("db", "db", 80)}
	var numbers map[string]uint32
	for round := range 5 { // each in another order, as maps have it
		c := compile.New(compile.Options{Families: api.Families(), Groups: true})
		for i := range policies {
			c.SetPolicy(policies[(i+round)%len(policies)])
		}
		for id, l := range pods {
			l.Interface = "cali" + id
			c.SetLocal(id, l)
		}
		for _, p := range profiles {
			c.SetProfile(p)
		}
		c.Update()
		have := map[string]uint32{}
		for id := range pods {
			have[id] = c.Group("cali" + id)
		}
		if have := classes(have); have != want {
			t.Errorf("have %s\nwant %s", have, want)
		}
		if diff := cmp.Diff(numbers, have); numbers != nil && diff != "" {
			t.Errorf("another Compiler gives other numbers:\n%s", diff)
		}
		numbers = have
	}
}

// TestClassesOfOneNumber has so many classes that some come to the same number: their pods go by their names, as long as
// both are there.
func TestClassesOfOneNumber(t *testing.T) {
	w := newWalk(0)
	w.options = compile.Options{Families: []api.Family{api.IPv4}, Groups: true}
	w.have = compile.New(w.options)
	for i := range uint16(1000) {
		name := fmt.Sprint("p", i)
		w.locals[name] = compile.Local{Interface: "cali" + name, Profiles: []string{name}}
		w.profiles[name] = &policy.Profile{Name: name, Ingress: []policy.Rule{allow(1000 + i)}}
	}
	w.tell(w.have)
	w.settle()
	named := w.named()
	if len(named) < 2 {
		t.Fatalf("%d pods of 1000 classes go by their names", len(named))
	}
	w.ways(t)
	left := named[0]
	for _, id := range named[1:] {
		w.have.DeleteLocal(id)
		delete(w.locals, id)
		w.group("cali"+id, 0)
	}
	changes := w.have.Update()
	if named = w.named(); len(named) > 0 {
		t.Errorf("%s go by their names, and nobody else has their numbers", named)
	}
	if slices.Contains(changes.Groups, "cali"+left) {
		t.Errorf("%s is left alone, and gets its group only now that no rule has its name", left)
	}
	w.ways(t)
}

// named gives the pods at interfaces of their names to which rules lead by these.
func (w *walk) named() []string {
	var ids []string
	for key, c := range w.have.Chains() {
		if !strings.HasPrefix(key.Name, "cali-to-wl-dispatch") {
			continue
		}
		for _, r := range c.Rules {
			if len(r.Conditions) == 0 {
				continue
			}
			if name, ok := r.Conditions[0].(chain.Out); ok && !strings.HasSuffix(string(name), "+") {
				ids = append(ids, strings.TrimPrefix(string(name), "cali"))
			}
		}
	}
	slices.Sort(ids)
	return ids
}
