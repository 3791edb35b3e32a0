// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs a program in new pid, mount, network, UTS and IPC namespaces, so that whatever it
// leaves behind (processes, namespaces, interfaces, mounts, files under /run, temporary files) ends with it.
//
// The program starts itself a second time as the sandbox's first process. Process 1 of a pid
// namespace takes every other one with it (pid_namespaces(7)), and a namespace without processes
// takes its interfaces and mounts. Process 1 ends when the program inside ends, and when the pipe to
// its owner breaks, which is what a kill -9 of the owner does to it. Cleaning up is thus nobody's
// task. A sandbox can contain another.
package sandbox
