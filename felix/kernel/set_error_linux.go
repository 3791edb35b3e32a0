// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"korat/policy"
)

// Errors of IP sets, which are numbers beyond those of errno.h.
const (
	// errSecondName: of a swap, there is no set with the second name; of a rename, there is one.
	errSecondName = unix.Errno(nl.IPSET_ERR_EXIST_SETNAME2)
	errOtherType  = unix.Errno(nl.IPSET_ERR_TYPE_MISMATCH)
)

// explain says what the kernel means by an error number, and names the set and the member.
func (m setMessage) explain(err error, maxMembers int) error {
	kernel := netlinkError{}
	if !errors.As(err, &kernel) {
		return fmt.Errorf("%s %s: %w", m.verb(), m.key.Name, err)
	}
	object := m.key.Name
	if at := int(kernel.line) - 1; at >= 0 && at < len(m.members) {
		object += " member " + m.members[at].String()
	}
	if text := m.meaning(kernel.Errno, maxMembers); text != "" {
		err = setError{kernel.Errno, text}
	}
	return fmt.Errorf("%s %s: %w", m.verb(), object, err)
}

func (m setMessage) verb() string {
	switch m.command {
	case nl.IPSET_CMD_ADD:
		return "add to set"
	case nl.IPSET_CMD_DEL:
		return "remove from set"
	case nl.IPSET_CMD_DESTROY:
		return "destroy set"
	}
	return "make set"
}

// meaning is empty for what strerror(3) knows better.
func (m setMessage) meaning(errno unix.Errno, maxMembers int) string {
	switch errno {
	case unix.ENOENT:
		return "there is no such set"
	case unix.EINVAL:
		return "invalid argument (has the kernel got the module ip_set?)"
	case nl.IPSET_ERR_FIND_TYPE:
		t, _ := typeOf(m.key.Kind)
		return "this kernel has no sets of type " + t.name
	case nl.IPSET_ERR_MAX_SETS:
		return "the kernel has as many sets as it can"
	case nl.IPSET_ERR_BUSY:
		return ErrSetInUse.Error()
	case nl.IPSET_ERR_EXIST_SETNAME2:
		return "somebody made a set of this name meanwhile"
	case nl.IPSET_ERR_TYPE_MISMATCH:
		return "a set of another type has this name"
	case nl.IPSET_ERR_TYPE_SPECIFIC:
		if m.key.Kind != policy.PortNumbers {
			return fmt.Sprintf("the set is full: it can have %d members (maxelem); raise maxIpsetSize in the FelixConfiguration", maxMembers)
		}
		return "a port beyond the set's range"
	default:
		if errno > nl.IPSET_ERR_PRIVATE {
			return fmt.Sprintf("the kernel refuses it with error %d of its IP sets", int(errno))
		}
	}
	return ""
}

// setError is an error number with a text.
type setError struct {
	unix.Errno
	text string
}

func (e setError) Error() string { return e.text }

func (e setError) Unwrap() error { return e.Errno }

// Is makes a set that is in use ErrSetInUse.
func (e setError) Is(target error) bool {
	return target == ErrSetInUse && e.Errno == nl.IPSET_ERR_BUSY || e.Errno.Is(target)
}
