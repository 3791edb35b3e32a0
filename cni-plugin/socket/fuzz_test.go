// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"net"
	"testing"
)

// said gives the end of a connection at whose other end somebody says data and hangs up.
func said(data []byte) (conn net.Conn, hungUp <-chan struct{}) {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = theirs.Write(data) // we may have hung up first
		_ = theirs.Close()
	}()
	return ours, done
}

// FuzzRequest has the server read what a peer says: requests until the first that is not understood, and none
// that is longer than it may be.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"verb":"ADD","containerID":"c","ifName":"eth0","families":[{"version":4},{"version":6,"pools":["p"]}],"addresses":["10.0.0.1","fd00::1"]}`))
	f.Add([]byte(`{"verb":"ADD","families":[{"version":-1},{"version":99999999999999999999}],"addresses":["::ffff:10.0.0.1%e",""]}`))
	f.Add([]byte(`{"verb":"GC","network":"n","valid":[{"containerID":"c","ifName":"eth0"},{}]}` + "\n" + `{"verb":"READY","mac":"02:00:00:00:00:01"}`))
	f.Add([]byte(`{"verb":"DEL","Verb":"ADD"}{"unknown":1}{"verb":"DEL"}`))
	f.Add([]byte(`null 7 [] "`))
	const longest = 256
	s := &Server{Limits: Limits{RequestBytes: longest}}
	f.Fuzz(func(t *testing.T, data []byte) {
		conn, hungUp := said(data)
		requests := make(chan incoming, len(data)+1)
		s.read(context.Background(), conn, requests)
		_ = conn.Close()
		<-hungUp
		close(requests)
		failed := false
		for in := range requests {
			if failed {
				t.Errorf("%q: %+v after an error", data, in.req)
			}
			failed = in.err != nil
			if text, err := json.Marshal(in.req); !failed && err != nil {
				t.Errorf("%q: %s, %v", data, text, err)
			}
			if failed {
				if r := undecodable(in.err); r.Error == nil || r.Error.Code != CodeDecodingFailure {
					t.Errorf("%q: answered with %+v", data, r)
				}
			}
		}
	})
}

// FuzzReply has the client read what it is answered.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"endpoint":{"containerID":"c","ifName":"eth0","interface":"cali1","addresses":["10.0.0.1","fd00::1"],"mtu":1450}}`))
	f.Add([]byte(`{"error":{"code":11,"msg":"m","details":"d"}}`))
	f.Add([]byte(`{"error":{}}`))
	f.Add([]byte(`{"status":{"a":[1,2`))
	f.Add([]byte(`{"stale":[{"addresses":["x"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, hungUp := said(data)
		// The request goes nowhere: nobody reads it.
		answered := unread{raw}
		metered := &meteredReader{r: answered}
		c := &Conn{path: "/s", conn: answered, dec: json.NewDecoder(metered), read: metered}
		reply, err := c.Call(context.Background(), Request{Verb: VerbStatus})
		_ = c.Close()
		<-hungUp
		if err == nil && reply.Error != nil {
			t.Errorf("%q: %+v without an error", data, reply.Error)
		}
		if err != nil && err.Error() == "" && reply.Error == nil {
			t.Errorf("%q: an error without text", data)
		}
	})
}

// unread is a connection that takes what is written.
type unread struct{ net.Conn }

func (unread) Write(p []byte) (int, error) { return len(p), nil }
