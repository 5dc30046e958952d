// SPDX-License-Identifier: GPL-2.0
/* A suite with one case that passes and one that fails; insmod succeeds. */
#include <kunit/test.h>
#include <linux/module.h>

static void planted_good(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 2, 1 + 1);
}

static void planted_bad(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 3, 1 + 1);
}

static struct kunit_case planted_cases[] = {
	KUNIT_CASE(planted_good),
	KUNIT_CASE(planted_bad),
	{}
};

static struct kunit_suite planted_suite = {
	.name = "planted",
	.test_cases = planted_cases,
};
kunit_test_suite(planted_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Planted KUnit failure for the runner's own test");
