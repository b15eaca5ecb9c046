// SPDX-License-Identifier: Apache-2.0
/* Calls functions that the tests know: usage: workload [NUMBER]. */
#include <stdio.h>
#include <stdlib.h>

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

	setlinebuf(stdout);
	printf("%d %d\n", user_double(number), user_triple(number));
	return 0;
}
