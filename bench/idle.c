// SPDX-License-Identifier: Apache-2.0
/*
 * What a container is to a tracer, without a runtime's work: processes that sleep, each in a mount
 * namespace of its own. Prints their process ids, one a line, then an empty line; they are killed
 * when standard input ends.
 *
 *   idle COUNT
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PROCESSES 20000

static pid_t processes[MAX_PROCESSES];

static void kill_all(long count)
{
	for (long i = 0; i < count; i++)
		kill(processes[i], SIGKILL);
	for (long i = 0; i < count; i++)
		waitpid(processes[i], NULL, 0);
}

/* Its process id is printed only once it has its namespace. */
static pid_t start(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNS) || write(ready[1], "r", 1) != 1)
			_exit(1);
		close(ready[0]);
		close(ready[1]);
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) != 1) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

int main(int argc, char **argv)
{
	long count = argc == 2 ? strtol(argv[1], NULL, 10) : -1;
	char byte;

	if (count < 0 || count > MAX_PROCESSES) {
		fprintf(stderr, "usage: idle COUNT (at most %d)\n", MAX_PROCESSES);
		return 2;
	}
	for (long i = 0; i < count; i++) {
		processes[i] = start();
		if (processes[i] < 0) {
			fprintf(stderr, "idle: process %ld has no mount namespace of its own\n", i);
			kill_all(i);
			return 1;
		}
		printf("%d\n", processes[i]);
	}
	printf("\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	kill_all(count);
	return 0;
}
