// SPDX-License-Identifier: Apache-2.0

package lab

import "testing"

func TestGoroutines(t *testing.T) {
	const log = `level=INFO msg=ready
SIGQUIT: quit
PC=0x40816e m=0 sigcode=0

goroutine 0 gp=0x55c740 m=0 mp=0x55d740 [idle]:
runtime.findRunnable()
	/usr/local/go/src/runtime/proc.go:3754 +0x97f fp=0x7fff28a1ae10

goroutine 7 gp=0xbde7ab44780 m=nil [chan receive, 2 minutes]:
runtime.gopark(0x0?, 0x0?, 0x0?, 0x0?, 0x0?)
	/usr/local/go/src/runtime/proc.go:462 +0xce fp=0xbde7ab78fa8
example.org/server.(*Server).serve(0xc000010000, {0x1, 0x2})
	/root/go/pkg/mod/example.org/server@v1.2.3/serve.go:12 +0xb3 fp=0xbde7ab78fe0
runtime.goexit({})
	/usr/local/go/src/runtime/asm_amd64.s:1771 +0x1 fp=0xbde7ab78fe8
created by example.org/server.New in goroutine 1
	/root/go/pkg/mod/example.org/server@v1.2.3/new.go:63 +0x1a

goroutine 8 gp=0xbde7ab44780 m=nil [chan receive]:
example.org/server.(*Server).serve(0xc000020000, {0x1, 0x2})
	/root/go/pkg/mod/example.org/server@v1.2.3/serve.go:12 +0xb3 fp=0xbde7ab78fe0

goroutine 1 gp=0xbde7ab441e0 m=nil [sync.WaitGroup.Wait]:
sync.(*WaitGroup).Wait(0xbde7ac06020)
	/usr/local/go/src/sync/waitgroup.go:206 +0x85 fp=0xbde7ac0eef8
main.together.func1(...)
	/src/cmd/korat-node/wire.go:3
main.main()
	/src/cmd/korat-node/main.go:3 +0x7d fp=0xbde7ac0ef48

rax    0xfffffffffffffffc
rbx    0x4
`
	want := `1 × [sync.WaitGroup.Wait] sync.(*WaitGroup).Wait waitgroup.go:206 < main.together.func1 wire.go:3 < main.main main.go:3
2 × [chan receive] example.org/server.(*Server).serve serve.go:12
`
	if have := goroutines(log); have != want {
		t.Errorf("have\n%swant\n%s", have, want)
	}
	if have := goroutines("level=INFO msg=ready\n"); have != "" {
		t.Errorf("of a log without any: %q", have)
	}
}
