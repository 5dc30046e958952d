// SPDX-License-Identifier: GPL-2.0
/* A module that loads well and makes the kernel warn. */
#include <linux/bug.h>
#include <linux/module.h>

static int __init planted_init(void)
{
	WARN(1, "planted\n");
	return 0;
}
module_init(planted_init);

static void __exit planted_exit(void)
{
}
module_exit(planted_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Planted WARN for the runner's own test");
