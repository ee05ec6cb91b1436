// Texts of the page that asks questions.

export default {
  en: {
    ask: "Ask",
    question: "Question",
    picture: "Picture",
  },
  zh: {
    ask: "提问",
    question: "问题",
    picture: "图片",
  },
};
