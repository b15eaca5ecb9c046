// SPDX-License-Identifier: Apache-2.0
/* Calls functions that the tests know: usage: workload [NUMBER | wait]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline, used)) int user_double(int number)
{
	__asm__ volatile("");
	return 2 * number;
}

__attribute__((noinline, used)) int user_triple(int number)
{
	__asm__ volatile("");
	return 3 * number;
}

int main(int argc, char **argv)
{
	int number = argc > 1 ? atoi(argv[1]) : 7;

	/* The first process of something like a container. */
	if (argc > 1 && !strcmp(argv[1], "wait"))
		return pause();
	setlinebuf(stdout);
	printf("%d %d\n", user_double(number), user_triple(number));
	return 0;
}
