// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"fmt"
	"strconv"
	"strings"
)

func (In) condition()        {}
func (Out) condition()       {}
func (LinkGroup) condition() {}
func (Proto) condition()     {}
func (Net) condition()       {}
func (InSet) condition()     {}
func (Ports) condition()     {}
func (ICMP) condition()      {}
func (Mark) condition()      {}
func (ConnMark) condition()  {}
func (CTState) condition()   {}
func (AddrType) condition()  {}
func (Spoofed) condition()   {}
func (Rate) condition()      {}

// String implements Condition.
func (c In) String() string { return "in " + string(c) }

// String implements Condition.
func (c Out) String() string { return "out " + string(c) }

// String implements Condition.
func (c LinkGroup) String() string {
	return c.Side.String() + " group " + hex(c.Value) + "/" + hex(c.Mask)
}

// String implements Condition.
func (c Proto) String() string { return not(c.Not) + "proto " + strconv.Itoa(int(c.Number)) }

// String implements Condition.
func (c Net) String() string { return not(c.Not) + c.Side.String() + " " + c.Prefix.String() }

// String implements Condition.
func (c InSet) String() string {
	with := ""
	if c.Port {
		with = " port"
	}
	return not(c.Not) + c.Side.String() + with + " in " + c.Set
}

// String implements Condition.
func (c Ports) String() string {
	all := make([]string, len(c.Ranges))
	for i, r := range c.Ranges {
		all[i] = strconv.Itoa(int(r.First))
		if r.Last != r.First {
			all[i] += ":" + strconv.Itoa(int(r.Last))
		}
	}
	return not(c.Not) + c.Side.String() + " ports " + strings.Join(all, ",")
}

// String implements Condition.
func (c ICMP) String() string { return fmt.Sprintf("%sicmp %d/%d", not(c.Not), c.Type, c.Code) }

// String implements Condition.
func (c Mark) String() string { return not(c.Not) + "mark " + hex(c.Value) + "/" + hex(c.Mask) }

// String implements Condition.
func (c ConnMark) String() string {
	return fmt.Sprintf("%sconnmark %#x/%#x", not(c.Not), c.Value, c.Mask)
}

// String implements Condition.
func (c CTState) String() string { return not(c.Not) + "ctstate " + c.States }

// String implements Condition.
func (c AddrType) String() string { return fmt.Sprintf("%s%s type %s", not(c.Not), c.Side, c.Type) }

// String implements Condition.
func (Spoofed) String() string { return "spoofed" }

// String implements Condition.
func (c Rate) String() string { return fmt.Sprintf("rate %d/s burst %d", c.PerSecond, c.Burst) }

func hex(n uint32) string { return "0x" + strconv.FormatUint(uint64(n), 16) }

func not(n bool) string {
	if n {
		return "not "
	}
	return ""
}

// String gives "ACCEPT", "jump cali-x", "mark 0x10000/0x10000".
func (a Action) String() string {
	switch a.Verb {
	case Jump:
		return "jump " + a.Text
	case Goto:
		return "goto " + a.Text
	case SetMark:
		return "mark " + hex(a.Value) + "/" + hex(a.Mask)
	case Report:
		return "report " + strconv.Itoa(int(a.Group)) + " " + strconv.Quote(a.Text)
	case KernelLog:
		return "log " + strconv.Quote(a.Text)
	case Accept:
		return "ACCEPT"
	case Drop:
		return "DROP"
	case Reject:
		return "REJECT"
	case Return:
		return "RETURN"
	case NoTrack:
		return "NOTRACK"
	case Masquerade:
		return "MASQUERADE"
	}
	return "verb " + strconv.Itoa(int(a.Verb))
}
